use super::*;
use serde::Deserialize;

/// What `fixtures/make/measures.py` found with SciPy.
#[derive(Deserialize)]
struct Found {
    mcnemar: Vec<McNemar>,
    share_error: Vec<Share>,
    wilcoxon: Vec<SignedRank>,
    sign_flips: Vec<Flipped>,
    holm: Vec<Holm>,
    bootstrap: Bootstrap,
    normal: Vec<Normal>,
}

#[derive(Deserialize)]
struct McNemar {
    b: u64,
    c: u64,
    p: Tails,
}

/// The p of each alternative.
#[derive(Deserialize)]
struct Tails {
    two_sided: f64,
    greater: f64,
    less: f64,
}

impl Tails {
    fn each(&self) -> [(Alternative, f64); 3] {
        let Self { two_sided, greater, less } = *self;
        [(Alternative::TwoSided, two_sided), (Alternative::Greater, greater), (Alternative::Less, less)]
    }
}

#[derive(Deserialize)]
struct Share {
    yes: u64,
    of: u64,
    error: f64,
}

#[derive(Deserialize)]
struct SignedRank {
    name: String,
    differences: Vec<f64>,
    exact: bool,
    statistic: f64,
    p: Tails,
}

#[derive(Deserialize)]
struct Flipped {
    differences: Vec<f64>,
    p: Tails,
}

#[derive(Deserialize)]
struct Holm {
    p: Vec<f64>,
    corrected: Vec<f64>,
}

#[derive(Deserialize)]
struct Bootstrap {
    weights: Vec<f64>,
    before: Vec<f64>,
    after: Vec<f64>,
    seed: u64,
    resamples: u64,
    mean: f64,
    error: f64,
    interval: Interval,
    shift: Interval,
    shift_of_exp: Interval,
    plain_error: f64,
}

#[derive(Deserialize)]
struct Normal {
    z: f64,
    p: f64,
}

fn found() -> Found {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/measures/statistics.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn close(found: f64, expected: f64, relative: f64) {
    assert!((found - expected).abs() <= relative * expected.abs(), "{found} {expected}");
}

#[test]
fn mcnemar_is_the_binomial_test() {
    for case in found().mcnemar {
        let flips = Flips { to_yes: case.b, to_no: case.c };
        case.p.each().into_iter().for_each(|(alternative, p)| close(flips.test(alternative).p, p, 1e-9));
    }
    let p = |to_yes, to_no| Flips { to_yes, to_no }.test(Alternative::TwoSided).p;
    assert_eq!((p(0, 0), p(0, 100_000)), (1.0, 0.0));
    let flips = Flips::between(&[true, true, false, false, true], &[true, false, true, false, false]);
    assert_eq!(flips, Some(Flips { to_yes: 1, to_no: 2 }));
    assert_eq!(Flips::between(&[true], &[]), None);
}

#[test]
fn wilcoxon_is_scipys() {
    for case in found().wilcoxon {
        for (alternative, p) in case.p.each() {
            let found = wilcoxon(&case.differences, alternative).unwrap();
            assert_eq!((found.exact, found.statistic), (case.exact, case.statistic), "{}", case.name);
            close(found.p, p, 1e-9);
        }
    }
    for nothing in [&[][..], &[0.0, 0.0], &[1.0, f64::NAN]] {
        assert_eq!(wilcoxon(nothing, Alternative::TwoSided), None);
    }
}

#[test]
fn sign_flips_are_scipys_and_sampled_ones_near_them() {
    for case in found().sign_flips {
        for (alternative, p) in case.p.each() {
            let found = sign_flip(&case.differences, alternative, 0).unwrap();
            let exact = case.differences.len() <= 16;
            assert_eq!((found.exact, found.n), (exact, case.differences.len()));
            // 100,000 draws.
            assert!((found.p - p).abs() <= if exact { 1e-12 } else { 0.006 }, "{found:?} {p}");
            assert_eq!(sign_flip(&case.differences, alternative, 0), Some(found));
        }
    }
    for nothing in [&[][..], &[0.0], &[1.0, f64::INFINITY]] {
        assert_eq!(sign_flip(nothing, Alternative::TwoSided, 0), None);
    }
    // 0.1 + 0.2 + 0.3 differs from 0.3 + 0.2 + 0.1 in its last bit, and both are the observed sum.
    assert_eq!(sign_flip(&[0.1, 0.2, 0.3], Alternative::Greater, 0).unwrap().p, 0.125);
}

#[test]
fn few_items_are_never_significant() {
    let least = |n: usize, alternative| {
        let test = wilcoxon(&(1..=n).map(|at| at as f64).collect::<Vec<_>>(), alternative).unwrap();
        assert_eq!(test.p, test.least_p());
        test.p
    };
    assert_eq!((least(4, Alternative::TwoSided), least(4, Alternative::Greater)), (0.125, 0.0625));
    assert_eq!((least(5, Alternative::TwoSided), least(5, Alternative::Greater)), (0.0625, 0.03125));
    assert_eq!(least(1, Alternative::TwoSided), 1.0);
}

#[test]
fn holms_correction_is_statsmodels() {
    for case in found().holm {
        holm(&case.p).into_iter().zip(case.corrected).for_each(|(found, expected)| close(found, expected, 1e-12));
    }
    assert_eq!(holm(&[]), Vec::<f64>::new());
}

#[test]
fn the_normal_tail_is_scipys() {
    for case in found().normal {
        close(normal::upper_tail(case.z), case.p, 1e-12);
    }
    assert!(normal::upper_tail(f64::NAN).is_nan());
}

#[test]
fn bootstrap_intervals_are_numpys_for_the_same_draws() {
    let Bootstrap { weights, before, after, seed, resamples, .. } = &found().bootstrap;
    let expected = found().bootstrap;
    let same = |found: Option<Interval>, expected: Interval| {
        let (low, high) = found.unwrap();
        close(low, expected.0, 1e-9);
        close(high, expected.1, 1e-9);
    };
    same(ratio_interval(before, weights, *seed, *resamples, |mean| mean), expected.interval);
    let shift =
        |function: fn(f64) -> f64| shift_interval((before, weights), (after, weights), *seed, *resamples, function);
    same(shift(|mean| mean), expected.shift);
    same(shift(f64::exp), expected.shift_of_exp);
    close(ratio(before, weights), expected.mean, 1e-12);
    close(ratio_error(before, weights).unwrap(), expected.error, 1e-12);
    close(ratio_error(before, &vec![1.0; before.len()]).unwrap(), expected.plain_error, 1e-12);
}

#[test]
fn what_is_too_little_has_no_interval() {
    assert_eq!(ratio_interval(&[1.0], &[1.0], 0, RESAMPLES, |mean| mean), None);
    assert_eq!(ratio_interval(&[0.0, 0.0], &[0.0, 0.0], 0, RESAMPLES, |mean| mean), None);
    assert_eq!(shift_interval((&[1.0, 2.0], &[1.0, 1.0]), (&[1.0], &[1.0]), 0, RESAMPLES, |mean| mean), None);
    assert_eq!((ratio_error(&[1.0], &[1.0]), share_error(1, 1)), (None, None));
    // Equal models do not shift, not even between infinities.
    let equal: (&[f64], &[f64]) = (&[1.0, 7.0, 3.0], &[1.0, 1.0, 1.0]);
    assert_eq!(shift_interval(equal, equal, 0, RESAMPLES, |mean| mean), Some((0.0, 0.0)));
    let infinite = ratio_interval(&[f64::INFINITY, f64::INFINITY], &[1.0, 1.0], 0, RESAMPLES, |mean| mean);
    assert_eq!(infinite, Some((f64::INFINITY, f64::INFINITY)));
}

#[test]
fn shares_have_the_error_of_noughts_and_hundreds() {
    for case in found().share_error {
        close(share_error(case.yes, case.of).unwrap(), case.error, 1e-12);
    }
}
