//! What models expect at a place of a text, for people and for programs.

use super::table::{Align, count, lines as columns, printable};
use super::verify::{Setup, TOOL, case, model_of};
use crate::ask::Told;
use crate::measure::predictions::{Expected, Prediction};
use serde_json::{Value, json as value};

/// A table for each place: a row for each option or token, a column for each model.
pub fn lines(told: &Told) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for expected in &told.expected {
        let of = match expected.mask {
            Some((number, several @ 2..)) => format!(" (mask {number} of {several})"),
            _ => String::new(),
        };
        out.push(format!("{}{of}", printable(&expected.text)));
        let titles: Vec<String> = told.models.iter().map(|(edit, _)| case(*edit)).collect();
        let header: Vec<(&str, Align)> = std::iter::once(("", Align::Left))
            .chain(titles.iter().map(|title| (title.as_str(), Align::Right)))
            .collect();
        let row = |prediction: &Prediction| {
            let probabilities = prediction.log_probabilities.iter().map(|log| probability(log.exp()));
            std::iter::once(name(prediction, expected)).chain(probabilities).collect()
        };
        let rows: Vec<Vec<String>> = expected.predictions.iter().map(row).collect();
        out.extend(columns(&header, &rows).into_iter().map(|line| format!("  {line}")));
        out.extend(expected.predictions.iter().filter_map(read_as).map(|note| format!("  {note}")));
        out.push(String::new());
    }
    let edited = |(edit, weights): &(Option<_>, u64)| {
        edit.map(|edit| format!("{}: {} weights edited", case(Some(edit)), count(*weights)))
    };
    out.extend(told.models.iter().filter_map(edited));
    while out.last().is_some_and(String::is_empty) {
        out.pop();
    }
    out
}

/// An option as it was given, a token without the blank before it, unless another one is told from it by that alone.
fn name(prediction: &Prediction, expected: &Expected) -> String {
    let bare = prediction.text.trim();
    let alike = expected.predictions.iter().filter(|other| other.text.trim() == bare).count();
    if bare.is_empty() || alike > 1 { format!("{:?}", prediction.text) } else { printable(bare) }
}

/// Says what an option is for the model, where that is not one token of the same text.
fn read_as(prediction: &Prediction) -> Option<String> {
    let same = |piece: &String| piece.trim().to_lowercase() == prediction.text.trim().to_lowercase();
    match &prediction.pieces[..] {
        [piece] if same(piece) => None,
        [piece] => Some(printable(&format!("{:?} is the token {:?} for this model", prediction.text, piece.trim()))),
        pieces => {
            let shown = pieces.iter().map(|piece| piece.trim()).collect::<Vec<_>>().join(" ");
            let (text, n) = (&prediction.text, pieces.len());
            Some(printable(&format!("{text:?} is {n} tokens ({shown}), each predicted after those before it")))
        }
    }
}

/// Three digits after the point, or the power of ten of a small one.
fn probability(probability: f64) -> String {
    if probability >= 0.0005 { format!("{probability:.3}") } else { format!("{probability:.0e}") }
}

/// Everything that was told.
pub fn json(told: &Told, setup: &Setup) -> Value {
    let prediction = |prediction: &Prediction| {
        value!({
            "text": prediction.text,
            "tokens": prediction.tokens,
            "pieces": prediction.pieces,
            "probabilities": prediction.log_probabilities.iter().map(|log| log.exp()).collect::<Vec<_>>(),
            "log_probabilities": prediction.log_probabilities,
        })
    };
    let prompt = |expected: &Expected| {
        value!({
            "text": expected.text,
            "mask": expected.mask.map(|(number, _)| number),
            "masks": expected.mask.map(|(_, of)| of),
            "predictions": expected.predictions.iter().map(prediction).collect::<Vec<_>>(),
        })
    };
    let cases = told.models.iter().map(|(edit, edited)| {
        value!({
            "case": case(*edit),
            "edit": edit.map(|edit| edit.label()),
            "alpha": edit.and_then(|edit| edit.alpha()).map(|alpha| alpha.value()),
            "edited": edited,
        })
    });
    value!({
        "tool": TOOL,
        "model": model_of(&told.model, setup),
        "runtime": setup.runtime,
        "patches": told.patches.iter().map(|patch| value!({ "path": patch.path.display().to_string(), "id": patch.id.to_string() })).collect::<Vec<_>>(),
        "cases": cases.collect::<Vec<_>>(),
        "prompts": told.expected.iter().map(prompt).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::verify::sample::{at, report};

    fn told(predictions: &[(&str, &[&str], [f64; 2])]) -> Told {
        let prediction = |(text, pieces, probabilities): &(&str, &[&str], [f64; 2])| Prediction {
            text: (*text).to_owned(),
            tokens: vec![7; pieces.len()],
            pieces: pieces.iter().map(|piece| (*piece).to_owned()).collect(),
            log_probabilities: probabilities.iter().map(|probability| probability.ln()).collect(),
        };
        let expected = Expected {
            text: "the nurse said that [MASK] was late".to_owned(),
            mask: Some((1, 1)),
            predictions: predictions.iter().map(prediction).collect(),
        };
        let sample = report(&[], |_| Vec::new());
        let models = vec![(None, 0), (Some(at(1.0)), 3300)];
        Told { model: sample.model, patches: sample.patches, models, expected: vec![expected] }
    }

    #[test]
    fn before_and_after_stand_side_by_side() {
        let shown = lines(&told(&[
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
        let options = told(&[("hairdresser", &["hair", "##dresser"], [0.5, 0.5]), ("日本", &["[UNK]"], [0.5, 0.5])]);
        let text = lines(&options).join("\n");
        assert!(text.contains("\"hairdresser\" is 2 tokens (hair ##dresser), each predicted after those before it"));
        assert!(text.contains("\"日本\" is the token \"[UNK]\" for this model"));
    }

    #[test]
    fn tokens_that_differ_by_a_blank_are_quoted_and_none_acts_on_a_terminal() {
        let text = lines(&told(&[
            (" she", &[" she"], [0.5, 0.5]),
            ("she", &["she"], [0.2, 0.2]),
            ("\u{1b}[31m", &["\u{1b}[31m"], [0.1, 0.1]),
        ]))
        .join("\n");
        assert!(text.contains("\" she\"") && text.contains("\"she\"") && !text.contains('\u{1b}'));
    }

    #[test]
    fn json_has_a_number_for_each_case() {
        let json = json(&told(&[("she", &["she"], [0.5, 0.25])]), &Setup::default());
        assert_eq!(json["cases"][1]["alpha"], 1.0);
        assert_eq!(json["prompts"][0]["predictions"][0]["probabilities"].as_array().unwrap().len(), 2);
    }
}
