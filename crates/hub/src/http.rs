//! Sends requests: redirects followed by hand, so that the token stays with its origin; tries again with growing waits.

use crate::Fault;
use crate::address::{Origin, join, shown};
use crate::notice::{Notice, Notify};
use crate::request::{Body, Method, Request};
use crate::settings::{Settings, Token};
use lcepatch_files::context::Context;
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ureq::http::{self, StatusCode, Uri, header};

/// How many redirects of one request are followed.
const REDIRECTS_MAX: u32 = 5;
/// How many tries follow the first one.
const TRIES_MORE: u32 = 5;
/// The longest that is waited because a server says so.
const WAIT_MAX: Duration = Duration::from_secs(300);
/// How often it is asked, while waiting, whether to stop.
const PAUSE: Duration = Duration::from_millis(50);
/// The longest answer of an interface, such as a page of a listing, in bytes.
pub(crate) const ANSWER_BYTES_MAX: u64 = 32 << 20;
/// How much of what a server says stands in a message, in characters.
const SAID_MAX: usize = 300;

/// An answer: its status and headers, and its body, which is read later.
pub struct Answer {
    /// The status, such as 200.
    pub status: u16,
    headers: http::HeaderMap,
    /// What was asked, after redirects.
    pub address: String,
    /// The headers of the answers that redirected, in their order.
    redirects: Vec<http::HeaderMap>,
    /// What was sent to show who asks: a server may repeat it.
    sent: Option<Token>,
    body: ureq::Body,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_struct("Answer").field("status", &self.status).field("address", &shown(&self.address)).finish()
    }
}

impl Answer {
    /// A header of the answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header of the first answer that has it, redirects included.
    pub(crate) fn first_header(&self, name: &str) -> Option<&str> {
        self.redirects.iter().chain([&self.headers]).find_map(|headers| headers.get(name)?.to_str().ok())
    }

    /// Whether it came from another address than was asked.
    pub(crate) fn is_redirected(&self) -> bool {
        !self.redirects.is_empty()
    }

    /// Whether the status says that it worked.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The length of the body, where the server says so.
    pub fn length(&self) -> Option<u64> {
        self.header("content-length")?.trim().parse().ok()
    }

    /// Reads the body. Fails with an I/O error where the connection breaks.
    pub fn reader(&mut self) -> impl Read {
        self.body.with_config().limit(u64::MAX).reader()
    }

    /// What the server says about a failure.
    pub(crate) fn said(&mut self) -> String {
        let mut text = self.header("x-error-message").unwrap_or_default().to_owned();
        if text.is_empty() {
            let mut bytes = Vec::new();
            let read = self.reader().take(4096).read_to_end(&mut bytes);
            let json: Option<serde_json::Value> = read.ok().and_then(|_| serde_json::from_slice(&bytes).ok());
            let error = json.as_ref().and_then(|json| json.get("error").or_else(|| json.get("message"))?.as_str());
            text = error.unwrap_or_default().to_owned();
        }
        if let Some(token) = &self.sent {
            text = text.replace(token.secret(), "(hidden)");
        }
        text.chars().filter(|c| !c.is_control()).take(SAID_MAX).collect()
    }
}

/// Why one try failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Another try would fail as well.
    Final(Fault),
    /// Another try may work; not before the time that the server says.
    Again(Fault, Option<Duration>),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Failure::Final(fault)
    }
}

/// The tries of one request, or of one file.
#[derive(Debug, Default)]
pub(crate) struct Tries(u32);

impl Tries {
    /// Begins anew, after a try that achieved something.
    pub(crate) fn reset(&mut self) {
        self.0 = 0;
    }
}

/// Sends requests.
#[derive(Clone)]
pub struct Http {
    agent: ureq::Agent,
    settings: Arc<Settings>,
    endpoint: Option<Origin>,
    notify: Notify,
}

impl std::fmt::Debug for Http {
    fn fmt(&self, out: &mut std::fmt::Formatter) -> std::fmt::Result {
        out.debug_struct("Http").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Http {
    /// Sends requests as the settings say. Proxies are those of the environment: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
    pub fn new(settings: Arc<Settings>, notify: Notify) -> Self {
        let tls = ureq::tls::TlsConfig::builder().root_certs(ureq::tls::RootCerts::PlatformVerifier).build();
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("lcepatch/", env!("CARGO_PKG_VERSION")))
            // Parts of a file are parts of what it is, not of what it would be compressed.
            .accept_encoding("identity")
            .tls_config(tls)
            .timeout_resolve(Some(settings.answer_timeout))
            .timeout_connect(Some(settings.answer_timeout))
            .timeout_per_read(Some(settings.read_timeout))
            .timeout_per_write(Some(settings.read_timeout))
            .build();
        let endpoint = settings.endpoint.parse().ok().and_then(|endpoint| Origin::of(&endpoint));
        Self { agent: config.new_agent(), settings, endpoint, notify }
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Says something to whoever waits.
    pub(crate) fn notify(&self, notice: &Notice) {
        (self.notify)(notice);
    }

    /// Sends a request and follows its redirects, with tries again where that can help. The answer can have any status but those that
    /// ask for another try.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn send(&self, request: &Request, context: &Context) -> Result<Answer, Fault> {
        self.retry(context, || self.try_once(request, context))
    }

    /// Sends a request and reads the whole body, at most `limit` bytes of it, with tries again also where the connection breaks.
    ///
    /// # Errors
    /// [`Fault`].
    pub fn send_and_read(&self, request: &Request, limit: u64, context: &Context) -> Result<(Answer, Vec<u8>), Fault> {
        self.retry(context, || {
            let mut answer = self.try_once(request, context)?;
            let mut bytes = Vec::new();
            let (length, address) = (answer.length(), answer.address.clone());
            // Statuses without success are explained by their headers, or by the little that `said` reads.
            if answer.is_success() {
                let read = answer.reader().take(limit + 1).read_to_end(&mut bytes);
                read.map_err(|error| self.broken(&address, &error))?;
            }
            let received = bytes.len() as u64;
            if received > limit {
                return Err(
                    Fault::TooLarge { address: shown(&address), bytes: length.unwrap_or(received), limit }.into()
                );
            }
            Ok((answer, bytes))
        })
    }

    /// Calls `once` until it works, fails for good, or has failed often enough.
    pub(crate) fn retry<T>(&self, context: &Context, mut once: impl FnMut() -> Result<T, Failure>) -> Result<T, Fault> {
        let mut tries = Tries::default();
        loop {
            match once() {
                Ok(done) => return Ok(done),
                Err(failure) => self.again(failure, &mut tries, context)?,
            }
        }
    }

    /// Waits before another try.
    ///
    /// # Errors
    /// The failure, if no further try is made; [`Fault::Cancelled`].
    pub(crate) fn again(&self, failure: Failure, tries: &mut Tries, context: &Context) -> Result<(), Fault> {
        let (fault, asked) = match failure {
            Failure::Final(fault) => return Err(fault),
            Failure::Again(fault, asked) => (fault, asked),
        };
        if tries.0 == TRIES_MORE || asked.is_some_and(|wait| wait > WAIT_MAX) {
            return Err(fault);
        }
        let wait = asked.unwrap_or_else(|| jittered(self.settings.back_off * (1 << tries.0.min(3))));
        tries.0 += 1;
        let origin = match &fault {
            Fault::RateLimited { origin, .. } | Fault::Connection { origin, .. } => origin.clone(),
            Fault::Server { address, .. } => origin_shown(address),
            _ => self.settings.endpoint.clone(),
        };
        self.notify(&Notice::Again { origin, reason: fault.to_string(), wait });
        let until = Instant::now() + wait;
        while let Some(left) = until.checked_duration_since(Instant::now()) {
            context.advance(0)?;
            std::thread::sleep(left.min(PAUSE));
        }
        Ok(())
    }

    /// A connection that broke while a body was read.
    pub(crate) fn broken(&self, address: &str, error: &std::io::Error) -> Failure {
        Failure::Again(Fault::Connection { origin: origin_shown(address), reason: error.to_string() }, None)
    }

    /// Sends a request once and follows its redirects.
    pub(crate) fn try_once(&self, request: &Request, context: &Context) -> Result<Answer, Failure> {
        if self.settings.offline {
            let (what, cache) = (shown(&request.address), self.settings.cache.clone());
            return Err(Fault::Offline { what, cache }.into());
        }
        let mut address: Uri = request
            .address
            .parse()
            .map_err(|_| Fault::Name { name: shown(&request.address), reason: "is not a web address".into() })?;
        let first = Origin::of(&address);
        let mut redirects = Vec::new();
        loop {
            let mut answer = self.exchange(request, &address, Origin::of(&address) == first, context)?;
            let location = answer.header("location").map(str::to_owned);
            let follows = matches!(answer.status, 301 | 302 | 303 | 307 | 308)
                && [Method::GET, Method::HEAD].contains(&request.method)
                && !request.stays;
            let Some(location) = location.filter(|_| follows) else {
                let failure = self.asks_again(&mut answer);
                answer.redirects = redirects;
                return failure.map_or(Ok(answer), Err);
            };
            if redirects.len() as u32 == REDIRECTS_MAX {
                return Err(Fault::RedirectLoop { address: shown(&request.address), limit: REDIRECTS_MAX }.into());
            }
            let next = join(&address, &location).filter(|next| Origin::of(next).is_some());
            address = next.ok_or_else(|| Fault::Answer {
                address: shown(&answer.address),
                reason: format!("it leads to {:?}, which is no web address", shown(&location)),
            })?;
            // A body that is read to its end leaves the connection open for the next request.
            let _ = std::io::copy(&mut answer.reader().take(4096), &mut std::io::sink());
            redirects.push(answer.headers);
        }
    }

    /// One request and its answer.
    fn exchange(
        &self,
        request: &Request,
        address: &Uri,
        at_first_origin: bool,
        context: &Context,
    ) -> Result<Answer, Failure> {
        let unreadable =
            || Fault::Name { name: shown(&address.to_string()), reason: "is not an address of the web".into() };
        let origin = Origin::of(address).ok_or_else(unreadable)?;
        if origin.is_exposed() && !self.settings.allow_http {
            return Err(Fault::PlainHttp { address: shown(&address.to_string()) }.into());
        }
        let mut builder = http::Request::builder().method(request.method.clone()).uri(address.clone());
        for (name, value) in &request.headers {
            if at_first_origin || !name.eq_ignore_ascii_case("authorization") {
                builder = builder.header(name, value);
            }
        }
        let is_authorized = builder.headers_ref().is_some_and(|headers| headers.contains_key(header::AUTHORIZATION));
        let to_endpoint = self.endpoint.as_ref() == Some(&origin) && !is_authorized;
        let sent = self.settings.token.as_ref().filter(|_| to_endpoint);
        if let Some(token) = sent {
            let mut value = http::HeaderValue::try_from(format!("Bearer {}", token.secret())).map_err(|_| {
                Fault::Setting { variable: "HF_TOKEN", value: "(hidden)".into(), expected: "letters and digits" }
            })?;
            value.set_sensitive(true);
            builder = builder.header(header::AUTHORIZATION, value);
        }
        let failed = |error: ureq::Error| self.failed(&origin, error);
        let answer = match &request.body {
            Body::None => self.run(builder, ureq::SendBody::none(), false),
            Body::Bytes(bytes) => {
                let mut reader = bytes.as_slice();
                let builder = builder.header(header::CONTENT_LENGTH, bytes.len());
                self.run(builder, ureq::SendBody::from_reader(&mut reader), true)
            }
            Body::File(part) => {
                let mut reader = part.reader(context);
                let builder = builder.header(header::CONTENT_LENGTH, part.length);
                self.run(builder, ureq::SendBody::from_reader(&mut reader), true)
            }
        };
        let (parts, body) = answer.map_err(failed)?.into_parts();
        Ok(Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            address: address.to_string(),
            redirects: Vec::new(),
            sent: sent.cloned(),
            body,
        })
    }

    fn run(
        &self,
        builder: http::request::Builder,
        body: ureq::SendBody,
        is_sent: bool,
    ) -> Result<http::Response<ureq::Body>, ureq::Error> {
        let request = builder.body(body)?;
        // A server may work for a while on what it is sent, such as a commit.
        let wait = if is_sent { 6 } else { 1 } * self.settings.answer_timeout;
        let config = self.agent.configure_request(request).timeout_recv_response(Some(wait));
        self.agent.run(config.timeout_per_read(Some(self.settings.read_timeout.max(wait))).build())
    }

    /// What went wrong before there was an answer.
    fn failed(&self, origin: &Origin, error: ureq::Error) -> Failure {
        let again = |reason: String| Failure::Again(Fault::Connection { origin: origin.to_string(), reason }, None);
        match error {
            ureq::Error::HostNotFound => Fault::NoSuchHost { host: origin.host().to_owned() }.into(),
            ureq::Error::Rustls(error) => Fault::Tls { origin: origin.to_string(), reason: error.to_string() }.into(),
            ureq::Error::Tls(reason) => Fault::Tls { origin: origin.to_string(), reason: reason.into() }.into(),
            ureq::Error::Io(error) if matches!(Fault::within(&error), Some(Fault::Cancelled)) => {
                Fault::Cancelled.into()
            }
            ureq::Error::Io(error) => match tls_reason(&error) {
                Some(reason) => Fault::Tls { origin: origin.to_string(), reason }.into(),
                None if is_unknown_host(&error) => Fault::NoSuchHost { host: origin.host().to_owned() }.into(),
                None => again(error.to_string()),
            },
            ureq::Error::Timeout(ureq::Timeout::Resolve) => Fault::NoSuchHost { host: origin.host().to_owned() }.into(),
            ureq::Error::Timeout(_) => again("no answer in time".into()),
            other => again(other.to_string()),
        }
    }

    /// The failure, if the status asks for another try.
    fn asks_again(&self, answer: &mut Answer) -> Option<Failure> {
        let wait = asked_wait(answer);
        match StatusCode::from_u16(answer.status).ok()? {
            StatusCode::TOO_MANY_REQUESTS => {
                Some(Failure::Again(Fault::RateLimited { origin: origin_shown(&answer.address), wait }, wait))
            }
            status if status == StatusCode::REQUEST_TIMEOUT || status.is_server_error() => {
                let (address, message) = (shown(&answer.address), answer.said());
                Some(Failure::Again(Fault::Server { address, status: answer.status, message }, wait))
            }
            _ => None,
        }
    }
}

/// How long a server says to wait: `Retry-After` in seconds, or the rest of the window of a `ratelimit` that is used up.
fn asked_wait(answer: &Answer) -> Option<Duration> {
    let after = answer.header("retry-after").and_then(|value| value.trim().parse().ok());
    let window = answer.header("ratelimit").and_then(|value| {
        let number = |name: &str| value.split(';').find_map(|part| part.trim().strip_prefix(name)?.parse::<u64>().ok());
        // One more, since the rest is rounded down.
        (number("r=") == Some(0)).then(|| number("t=")).flatten().map(|rest| rest.saturating_add(1))
    });
    window.or(after).map(Duration::from_secs)
}

/// Between three quarters and five quarters of `wait`, so that many who fail together do not come back together.
fn jittered(wait: Duration) -> Duration {
    let part = RandomState::new().hash_one(0_u8) % 512;
    wait * (768 + part as u32) / 1024
}

fn origin_shown(address: &str) -> String {
    let origin = address.parse().ok().and_then(|address| Origin::of(&address));
    origin.map_or_else(|| shown(address), |origin| origin.to_string())
}

/// What rustls says, where it is inside of an I/O error.
fn tls_reason(error: &std::io::Error) -> Option<String> {
    let text = error.to_string();
    let inside = error.get_ref()?;
    let is_tls = inside.is::<ureq::Error>()
        || text.contains("certificate")
        || text.contains("handshake")
        || text.contains("InvalidContentType");
    is_tls.then_some(text)
}

/// Whether the system's resolver says that there is no such host. Its answer has no kind of its own.
fn is_unknown_host(error: &std::io::Error) -> bool {
    error.to_string().starts_with("failed to lookup address")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{answer, http, serve};
    use std::io::Write;
    use std::net::TcpListener;

    fn get(http: &Http, address: &str) -> Result<(Answer, Vec<u8>), Fault> {
        http.send_and_read(&Request::get(address), 100, &Context::silent())
    }

    #[test]
    fn the_token_goes_to_its_origin_only() {
        let (cdn, cdn_thread) = serve(vec![answer("200 OK", "", "file")]);
        let (hub, hub_thread) = serve(vec![answer("302 Found", &format!("Location: {cdn}/x\r\nX-Here: hub\r\n"), "")]);
        let (found, bytes) = get(&http(&hub), &format!("{hub}/a")).unwrap();
        assert_eq!((found.first_header("x-here"), bytes.as_slice()), (Some("hub"), &b"file"[..]));
        let [to_hub, to_cdn] =
            [hub_thread, cdn_thread].map(|thread| thread.join().unwrap().remove(0).to_ascii_lowercase());
        assert!(to_hub.contains("authorization: bearer hf_secret"), "{to_hub}");
        assert!(to_hub.contains(concat!("user-agent: lcepatch/", env!("CARGO_PKG_VERSION"))), "{to_hub}");
        assert!(!to_cdn.contains("authorization") && !to_cdn.contains("secret"), "{to_cdn}");
    }

    #[test]
    fn a_token_that_a_server_repeats_is_not_shown() {
        for answered in [
            answer("403 No", "X-Error-Message: not for Bearer hf_secret\r\n", ""),
            answer("403 No", "", "{\"error\": \"not for Bearer hf_secret\"}"),
        ] {
            let (hub, _) = serve(vec![answered]);
            assert_eq!(get(&http(&hub), &hub).unwrap().0.said(), "not for Bearer (hidden)");
        }
    }

    #[test]
    fn what_may_pass_is_tried_again_and_the_rest_is_not() {
        let busy = || answer("503 Busy", "", "");
        let (hub, thread) =
            serve(vec![busy(), answer("429 Slow", "Retry-After: 0\r\n", ""), answer("200 OK", "", "x")]);
        assert_eq!(get(&http(&hub), &hub).unwrap().1, b"x");
        assert_eq!(thread.join().unwrap().len(), 3);
        let (hub, thread) = serve((0..=TRIES_MORE).map(|_| busy()).collect());
        assert!(matches!(get(&http(&hub), &hub), Err(Fault::Server { status: 503, .. })));
        assert_eq!(thread.join().unwrap().len(), 6);
        let (hub, _) = serve(vec![answer("404 No", "", "")]);
        assert_eq!(get(&http(&hub), &hub).unwrap().0.status, 404);
        let (hub, _) = serve(vec![answer("429 Slow", "ratelimit: \"api\";r=0;t=300\r\n", "")]);
        let wait = Some(Duration::from_secs(301));
        assert!(matches!(get(&http(&hub), &hub), Err(Fault::RateLimited { wait: found, .. }) if found == wait));
    }

    #[test]
    fn a_body_that_breaks_is_tried_again() {
        let broken = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nonly".to_owned();
        let (hub, _) = serve(vec![broken, answer("200 OK", "", "whole")]);
        assert_eq!(get(&http(&hub), &hub).unwrap().1, b"whole");
    }

    #[test]
    fn bounds_hold() {
        let (hub, _) = serve((0..=REDIRECTS_MAX).map(|_| answer("302 Found", "Location: /again\r\n", "")).collect());
        assert!(matches!(get(&http(&hub), &hub), Err(Fault::RedirectLoop { .. })));
        let (hub, _) = serve(vec![answer("200 OK", "", &"x".repeat(101))]);
        assert!(matches!(get(&http(&hub), &hub), Err(Fault::TooLarge { bytes: 101, limit: 100, .. })));
        let (hub, _) = serve(vec![answer("302 Found", "Location: http://elsewhere.example/\r\n", "")]);
        assert!(matches!(get(&http(&hub), &hub), Err(Fault::PlainHttp { .. })));
        let (hub, _) = serve(vec![answer("302 Found", "Location: ftp://h/\r\n", "")]);
        assert!(matches!(get(&http(&hub), &hub), Err(Fault::Answer { .. })));
    }

    #[test]
    fn nobody_there_is_a_failed_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(get(&http(&address), &address), Err(Fault::Connection { .. })));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let tls = format!("https://{}", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        });
        let fault = get(&http(&tls), &tls).unwrap_err();
        assert!(matches!(fault, Fault::Tls { .. }), "{fault:?}");
        thread.join().unwrap();
    }

    #[test]
    fn offline_nothing_is_sent() {
        let mut settings = Settings::from_variables(|_| None).unwrap();
        settings.offline = true;
        let http = Http::new(Arc::new(settings), Arc::new(|_| {}));
        assert!(matches!(get(&http, "https://h/x"), Err(Fault::Offline { .. })));
    }
}
