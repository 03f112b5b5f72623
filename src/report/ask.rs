//! Predictions of models for prompts, as tables and as JSON.

use super::table::{Align, lines as columns, printable};
use super::verify::{Setup, TOOL, case, model_of};
use crate::ask::PredictionReport;
use crate::edit::EditKind;
use crate::measure::predictions::{Prediction, PromptPredictions};
use crate::words::counted;
use serde_json::{Value, json as value};

/// A table for each prompt, with a row for each option or token and a column for each model.
pub fn lines(report: &PredictionReport) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for prompt in &report.prompts {
        out.push(title(prompt));
        let cases: Vec<String> = report.models.iter().map(|(edit, _)| case(*edit)).collect();
        let mut header = vec![("", Align::Left)];
        header.extend(cases.iter().map(|case| (case.as_str(), Align::Right)));
        let rows: Vec<Vec<String>> = prompt.predictions.iter().map(|prediction| row(prediction, prompt)).collect();
        out.extend(columns(&header, &rows).into_iter().map(|line| format!("  {line}")));
        out.extend(prompt.predictions.iter().filter_map(tokenization).map(|line| format!("  {line}")));
        out.push(String::new());
    }
    for (edit, edited) in &report.models {
        out.extend(edit.map(|edit| format!("{}: {} edited", case(Some(edit)), counted(*edited, "weight"))));
    }
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out
}

/// The text of a prompt, with the number of its mask where it has several.
fn title(prompt: &PromptPredictions) -> String {
    let mask = match prompt.mask {
        Some((number, masks @ 2..)) => format!(" (mask {number} of {masks})"),
        _ => String::new(),
    };
    format!("{}{mask}", printable(&prompt.text))
}

fn row(prediction: &Prediction, prompt: &PromptPredictions) -> Vec<String> {
    let probabilities = prediction.log_probabilities.iter().map(|log| probability(log.exp()));
    std::iter::once(label(prediction, prompt)).chain(probabilities).collect()
}

/// The text of a prediction without blanks around it. It is quoted, with its blanks, where only these tell two predictions apart.
fn label(prediction: &Prediction, prompt: &PromptPredictions) -> String {
    let trimmed = prediction.text.trim();
    let alike = prompt.predictions.iter().filter(|other| other.text.trim() == trimmed).count();
    if trimmed.is_empty() || alike > 1 { format!("{:?}", prediction.text) } else { printable(trimmed) }
}

/// Explains an option that the model does not read as one token with the same text.
fn tokenization(prediction: &Prediction) -> Option<String> {
    let is_same = |piece: &String| piece.trim().to_lowercase() == prediction.text.trim().to_lowercase();
    match &prediction.pieces[..] {
        [piece] if is_same(piece) => None,
        [piece] => Some(printable(&format!("{:?} is the token {:?} for this model", prediction.text, piece.trim()))),
        pieces => {
            let shown = pieces.iter().map(|piece| piece.trim()).collect::<Vec<_>>().join(" ");
            let (text, tokens) = (&prediction.text, counted(pieces.len(), "token"));
            Some(printable(&format!("{text:?} is {tokens} ({shown}), each predicted after those before it")))
        }
    }
}

/// Three digits after the point, or one digit and the power of ten of a small probability.
fn probability(probability: f64) -> String {
    if probability >= 0.0005 { format!("{probability:.3}") } else { format!("{probability:.0e}") }
}

/// The whole report as JSON.
pub fn json(report: &PredictionReport, setup: &Setup) -> Value {
    let patches = report
        .patches
        .iter()
        .map(|patch| value!({ "path": patch.path.display().to_string(), "id": patch.id.to_string() }));
    value!({
        "tool": TOOL,
        "model": model_of(&report.model, setup),
        "runtime": setup.runtime,
        "patches": patches.collect::<Vec<_>>(),
        "cases": report.models.iter().map(|(edit, edited)| case_json(*edit, *edited)).collect::<Vec<_>>(),
        "prompts": report.prompts.iter().map(prompt_json).collect::<Vec<_>>(),
    })
}

fn case_json(edit: Option<EditKind>, edited: u64) -> Value {
    value!({
        "case": case(edit),
        "edit": edit.map(|edit| edit.label()),
        "alpha": edit.and_then(|edit| edit.alpha()).map(|alpha| alpha.value()),
        "edited": edited,
    })
}

fn prompt_json(prompt: &PromptPredictions) -> Value {
    value!({
        "text": prompt.text,
        "mask": prompt.mask.map(|(number, _)| number),
        "masks": prompt.mask.map(|(_, masks)| masks),
        "predictions": prompt.predictions.iter().map(prediction_json).collect::<Vec<_>>(),
    })
}

fn prediction_json(prediction: &Prediction) -> Value {
    value!({
        "text": prediction.text,
        "tokens": prediction.tokens,
        "pieces": prediction.pieces,
        "probabilities": prediction.log_probabilities.iter().map(|log| log.exp()).collect::<Vec<_>>(),
        "log_probabilities": prediction.log_probabilities,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verify::sample::{at, report};

    fn sample(predictions: &[(&str, &[&str], [f64; 2])]) -> PredictionReport {
        let prediction = |(text, pieces, probabilities): &(&str, &[&str], [f64; 2])| Prediction {
            text: (*text).to_owned(),
            tokens: vec![7; pieces.len()],
            pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
            log_probabilities: probabilities.iter().map(|probability| probability.ln()).collect(),
        };
        let prompt = PromptPredictions {
            text: "the nurse said that [MASK] was late".to_owned(),
            mask: Some((1, 1)),
            predictions: predictions.iter().map(prediction).collect(),
        };
        let sample = report(&[], |_| Vec::new());
        let models = vec![(None, 0), (Some(at(1.0)), 3300)];
        PredictionReport { model: sample.model, patches: sample.patches, models, prompts: vec![prompt] }
    }

    #[test]
    fn before_and_after_stand_side_by_side() {
        let shown = lines(&sample(&[
            ("she", &["she"], [0.83, 0.46]),
            ("he", &["he"], [0.11, 0.45]),
            ("it", &["it"], [2e-5, 0.0]),
        ]));
        let expected = "\
the nurse said that [MASK] was late
       unedited  alpha 1
  she     0.830    0.460
  he      0.110    0.450
  it       2e-5      0e0

alpha 1: 3,300 weights edited";
        assert_eq!(shown.join("\n"), expected);
    }

    #[test]
    fn what_an_option_is_for_the_model_is_said() {
        let options = sample(&[("hairdresser", &["hair", "##dresser"], [0.5, 0.5]), ("日本", &["[UNK]"], [0.5, 0.5])]);
        let text = lines(&options).join("\n");
        assert!(text.contains("\"hairdresser\" is 2 tokens (hair ##dresser), each predicted after those before it"));
        assert!(text.contains("\"日本\" is the token \"[UNK]\" for this model"));
    }

    #[test]
    fn tokens_that_differ_by_a_blank_are_quoted_and_none_acts_on_a_terminal() {
        let text = lines(&sample(&[
            (" she", &[" she"], [0.5, 0.5]),
            ("she", &["she"], [0.2, 0.2]),
            ("\u{1b}[31m", &["\u{1b}[31m"], [0.1, 0.1]),
        ]))
        .join("\n");
        assert!(text.contains("\" she\"") && text.contains("\"she\"") && !text.contains('\u{1b}'));
    }

    #[test]
    fn json_has_a_number_for_each_case() {
        let json = json(&sample(&[("she", &["she"], [0.5, 0.25])]), &Setup::default());
        assert_eq!(json["cases"][1]["alpha"], 1.0);
        assert_eq!(json["prompts"][0]["predictions"][0]["probabilities"].as_array().unwrap().len(), 2);
    }
}
