//! `verify --onnx`: models measured through a user's own export.

use crate::support::*;
use serde_json::Value;
use std::path::Path;

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn words(dir: &Dir) {
    dir.write("text", b"the nurse said that she was late .\nhe is an engineer , and she is a doctor .\nwe asked .\n");
    let pairs = [
        ("she is a nurse .", "he is a nurse .", "stereo"),
        ("he is an engineer .", "she is an engineer .", "stereo"),
        ("the man was late .", "the woman was late .", "antistereo"),
        ("we asked her about science .", "we asked him about science .", "antistereo"),
    ];
    let rows = pairs.iter().enumerate().map(|(at, (more, less, direction))| {
        format!("{at},{more},{less},{direction},gender,[],anon,[]\n").replace(" ,", "")
    });
    let header =
        ",sent_more,sent_less,stereo_antistereo,bias_type,annotations,anon_writer,anon_annotators\n".to_owned();
    dir.write("pairs.csv", rows.fold(header, |csv, row| csv + &row).as_bytes());
}

/// Expects the same measures, items and decisions, and numbers that are as near as two graphs can be.
#[track_caller]
fn agree(ours: &Value, theirs: &Value, at: &str) -> usize {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            assert!(ours.keys().eq(theirs.keys()), "{at}");
            let inner = ours.iter().filter(|(key, _)| *key != "seconds");
            inner.map(|(key, value)| agree(value, &theirs[key], &format!("{at}.{key}"))).sum()
        }
        (Value::Array(ours), Value::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{at}");
            ours.iter().zip(theirs).map(|(ours, theirs)| agree(ours, theirs, at)).sum()
        }
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            assert!((a - b).abs() <= 1e-4 * a.abs().max(1.0), "{at}: {a}, {b}");
            1
        }
        _ => {
            assert_eq!(ours, theirs, "{at}");
            0
        }
    }
}

#[test]
fn our_own_export_measures_as_the_model_itself() {
    let dir = Dir::new();
    words(&dir);
    let [target, reference] =
        ["target", "reference"].map(|side| fixture(&format!("imp/{side}/pruned")).to_str().unwrap().to_owned());
    dir.run(&format!("diff {target} {reference} -o p --density 10% --mask-from none")).ok();
    dir.run(&format!("export {target} -o export")).ok();
    let measures = "--weat 6,8 --perplexity text --ppl mlm,pseudo --crows-pairs pairs.csv --kl";
    let line = format!("verify {target} --patch p --alpha -2,1 {measures} --json --items");
    let ours = dir.run_model(&line).ok().json();
    let run = dir.run_model(&format!("{line} --onnx export/model.onnx")).ok();
    let theirs = run.json();
    assert_eq!(theirs["model"]["onnx"], "export/model.onnx");
    assert!(agree(&ours["rows"], &theirs["rows"], "rows") > 200);
    assert!(!run.err.contains("note"), "{run:?}");
    // It has no hidden states but the last.
    dir.run_model(&format!("verify {target} --onnx export/model.onnx --weat 8 --weat-encoding wordpiece"))
        .fails(6)
        .says(&["no output hidden_states.0", "every layer"]);
    // The export of another model: its weights are not the checkpoint's.
    let other = format!("verify {reference} --onnx export/model.onnx --weat 8");
    dir.run_model(&other).ok().says(&[
        "note: ",
        "initializers of the export are no tensors of the checkpoint",
        ", ...",
    ]);
    dir.run(&format!("diff {reference} {target} -o back --density 10% --mask-from none")).ok();
    dir.run_model(&format!("{other} --patch back")).fails(6).says(&["no initializer", "attention", "--exclude"]);
}
