//! What unit tests share: a server that says what it is told.

use crate::http::Http;
use crate::settings::Settings;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

/// A server on loopback that gives each connection the next answer, and returns what it was sent.
pub(crate) fn serve(answers: Vec<String>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let thread = std::thread::spawn(move || {
        answers
            .into_iter()
            .map(|answer| {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                let mut byte = [0];
                while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                    request.push(byte[0]);
                }
                stream.write_all(answer.as_bytes()).unwrap();
                String::from_utf8(request).unwrap()
            })
            .collect()
    });
    (address, thread)
}

/// An answer after which the connection is closed.
pub(crate) fn answer(status: &str, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len())
}

/// Sends the token `hf_secret` to the endpoint, and tries again at once.
pub(crate) fn http(endpoint: &str) -> Http {
    let variables = |name: &str| match name {
        "HF_ENDPOINT" => Some(endpoint.to_owned()),
        "HF_TOKEN" => Some("hf_secret".to_owned()),
        _ => None,
    };
    let mut settings = Settings::from_variables(variables).unwrap();
    settings.back_off = Duration::from_millis(1);
    Http::new(Arc::new(settings), Arc::new(|_| {}))
}
