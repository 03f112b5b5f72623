//! The flags that say what is measured, and the measures that they stand for.

use super::super::arguments;
use super::super::exit::Failure;
use super::super::terminal::Terminal;
use crate::error::Reason;
use crate::measure::choices::Choices;
use crate::measure::compare::Comparison;
use crate::measure::crows_pairs::{self, CrowsPairs, Variant};
use crate::measure::divergence::DivergenceOptions;
use crate::measure::expectation::Expectation;
use crate::measure::generation::Generation;
use crate::measure::perplexity::{CausalOptions, FirstToken, MaskedOptions, Masking, Perplexity, PseudoOptions};
use crate::measure::seat::Seat;
use crate::measure::statistics::Ddof;
use crate::measure::stereoset::{self, Split, StereoSet};
use crate::measure::text::{LinePolicy, Text, TextOptions, Unit};
use crate::measure::threshold::NotMeasured;
use crate::measure::weat::{LayerChoice, Weat, WeatOptions, WordEncoding};
use crate::measure::{ModelFacts, ModelKind, Parts, Tokens};
use crate::model::Model;
use crate::model::tokenizer::Tokenizer;
use crate::verify::MeasurePlan;
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Args)]
pub struct Measures {
    /// WEAT tests: numbers of published lists, such as 6,7,8 or 6b, or files in the format of sent-bias
    #[arg(long, value_delimiter = ',', value_name = "LIST|FILE,...", help_heading = "Measures")]
    weat: Vec<String>,
    /// SEAT tests: a file in the format of sent-bias, or a folder of such files
    #[arg(long, value_name = "PATH", help_heading = "Measures")]
    seat: Option<PathBuf>,
    /// How WEAT and SEAT encode: the mean of all positions (biasbench), the word pieces in each layer (wordpiece, the paper's), \
    /// [CLS], or the first piece (sent-bias)
    #[arg(long, default_value = "biasbench", value_name = "ENCODING", help_heading = "Measures")]
    weat_encoding: Encoding,
    /// With --weat-encoding wordpiece: treat the embeddings as a layer, too
    #[arg(long, help_heading = "Measures")]
    weat_embeddings: bool,
    /// Delta degrees of freedom of the effect size's standard deviation
    #[arg(long, default_value = "1", help_heading = "Measures")]
    ddof: DdofNumber,
    /// CrowS-Pairs, on its published CSV file
    #[arg(long, value_name = "FILE", help_heading = "Measures")]
    crows_pairs: Option<PathBuf>,
    /// Which CrowS-Pairs score: of the tokens that differ (bias-bench), or of the shared ones (the original)
    #[arg(long, value_name = "VARIANT", help_heading = "Measures")]
    crows_variant: Option<CrowsVariant>,
    /// Which bias types of CrowS-Pairs: names, or `all`
    #[arg(long, default_value = "gender", value_name = "TYPE,...", help_heading = "Measures")]
    bias_type: String,
    /// StereoSet's intrasentence task, on its dev.json or test.json
    #[arg(long, value_name = "FILE", help_heading = "Measures")]
    stereoset: Option<PathBuf>,
    /// Which domains of StereoSet: names, or `all`
    #[arg(long, default_value = "gender", value_name = "DOMAIN,...", help_heading = "Measures")]
    domain: String,
    /// Which split of StereoSet, if the file has both
    #[arg(long, help_heading = "Measures")]
    split: Option<SplitName>,
    /// Perplexity on a text file, one text per line
    #[arg(long, value_name = "FILE", help_heading = "Measures")]
    perplexity: Option<PathBuf>,
    /// Which perplexities [default: mlm of masked models, causal of causal ones]
    #[arg(
        long,
        value_delimiter = ',',
        requires = "perplexity",
        value_name = "KIND,...",
        help_heading = "Measures",
        long_help = "\
Which perplexities:
  mlm          of 15 % of the tokens, masked or replaced as in training, with a seed (the paper's)
  pseudo       of every token, masked alone
  within-word  the same, with the later pieces of its word masked too
  causal       of every token but the first, in windows that overlap
[default: mlm of masked models, causal of causal ones]"
    )]
    ppl: Vec<PerplexityName>,
    /// Multiple choice by log-likelihood, as lm-evaluation-harness scores it: files of JSON lines with context, choices, gold (counted
    /// from 0) and group, such as of BBQ, WinoBias, HellaSwag, ARC or MMLU
    #[arg(long, value_delimiter = ',', value_name = "FILE,...", help_heading = "Measures")]
    choices: Vec<PathBuf>,
    /// KL divergence of the edited model's predictions from the unedited one's, on the text of --perplexity
    #[arg(long, requires = "perplexity", help_heading = "Measures")]
    kl: bool,
    /// How many predictions --kl compares
    #[arg(long, default_value_t = 256, value_name = "COUNT", help_heading = "Measures")]
    kl_positions: u64,
    /// Measure perplexity on so many tokens of a long text, drawn at random [default: all]
    #[arg(long, value_parser = arguments::count, value_name = "COUNT", requires = "perplexity", help_heading = "Measures")]
    max_tokens: Option<u64>,
    /// Leave out the headings of WikiText, as in ` = Title = `
    #[arg(long, help_heading = "Measures")]
    no_headings: bool,
    /// Tokens in a window of causal perplexity [default: as many as the model takes]
    #[arg(long, value_name = "TOKENS", help_heading = "Measures")]
    window: Option<u32>,
    /// Tokens from one window to the next [default: half a window]
    #[arg(long, value_name = "TOKENS", help_heading = "Measures")]
    stride: Option<u32>,
    /// Also score the first token of a text, given the token that begins texts
    #[arg(long, help_heading = "Measures")]
    first_token: bool,
    /// Prompts, one a line, that a causal model continues with its most likely tokens, so that the texts of all models can be read beside
    /// each other
    #[arg(long, value_name = "FILE", help_heading = "Measures")]
    prompts: Option<PathBuf>,
    /// How many tokens are added to each prompt
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=4096), value_name = "COUNT",
        help_heading = "Measures")]
    prompt_tokens: u32,
    /// State that a measure's score will fall, as in 'weat8<0', or rise, as in 'ppl.mlm>0': the test of its change is then
    /// one-sided. All other changes are tested both ways
    #[arg(long, value_name = "DIRECTION", value_parser = expectation, help_heading = "Measures")]
    expect: Vec<Expectation>,
    /// The seed of everything that is drawn at random: masks, samples, permutations, bootstraps
    #[arg(long, default_value_t = 0, help_heading = "Measures")]
    seed: u64,
}

// Comments on the values of these would be in the help, where each flag says what they mean.

/// How WEAT and SEAT encode.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Encoding {
    Biasbench,
    Wordpiece,
    Cls,
    First,
}

/// Delta degrees of freedom.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum DdofNumber {
    #[value(name = "0")]
    Zero,
    #[value(name = "1")]
    One,
}

/// Which CrowS-Pairs score.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum CrowsVariant {
    Diff,
    Shared,
}

/// Which split of StereoSet.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum SplitName {
    Dev,
    Test,
}

/// Which perplexity.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum PerplexityName {
    Mlm,
    Pseudo,
    WithinWord,
    Causal,
}

impl Measures {
    /// How changes are tested.
    pub fn comparison(&self) -> Comparison {
        Comparison { seed: self.seed, expected: self.expect.clone() }
    }

    /// Checks, before the model is read, that something is measured, and finds its files.
    pub fn found(&self, terminal: &Terminal) -> Result<Self, Failure> {
        let mut found = self.clone();
        let files =
            [&mut found.seat, &mut found.crows_pairs, &mut found.stereoset, &mut found.perplexity, &mut found.prompts];
        let mut files = files.into_iter().flatten().chain(&mut found.choices).peekable();
        if self.weat.is_empty() && files.peek().is_none() {
            let help = "say what with --weat, --seat, --crows-pairs, --stereoset, --choices, --perplexity or --prompts";
            return Err(Failure::usage("there is nothing to measure", help));
        }
        for path in files {
            *path = terminal.sources().file(path, &terminal.context())?;
            let unreadable = |source| Reason::Io { operation: "read", path: path.clone(), source };
            std::fs::metadata(&*path).map_err(unreadable)?;
        }
        self.weat.iter().try_for_each(|test| named(test).map(|_| ()))?;
        Ok(found)
    }

    /// Reads the data, and adds the measures and their questions to `plan`. `has_patch` is whether edited models will be measured.
    pub fn plan(
        &self,
        tokenizer: &Arc<Tokenizer>,
        model: &Model,
        directory: &Path,
        has_patch: bool,
        plan: &mut MeasurePlan,
    ) -> Result<(), Failure> {
        let weat = self.weat_options();
        let (tokens, facts): (&dyn Tokens, _) = (&**tokenizer, model.facts());
        let MeasurePlan { work, measures, generation } = plan;
        for test in &self.weat {
            measures.push(named(test)?.plan(&weat, tokens, facts, work)?);
        }
        if let Some(path) = &self.seat {
            measures.extend(Seat::read(path)?.plan(&weat, tokens, facts, work)?);
        }
        if let Some(path) = &self.crows_pairs {
            let variant = self.crows_variant.map(|variant| match variant {
                CrowsVariant::Diff => Variant::Diff,
                CrowsVariant::Shared => Variant::Shared,
            });
            let options = crows_pairs::Options { variant, bias_types: Parts::listed(&self.bias_type) };
            measures.push(CrowsPairs::read(path)?.plan(&options, tokens, facts, work)?);
        }
        if let Some(path) = &self.stereoset {
            let split = self.split.map(|split| match split {
                SplitName::Dev => Split::Dev,
                SplitName::Test => Split::Test,
            });
            let options = stereoset::Options { domains: Parts::listed(&self.domain), split };
            measures.push(StereoSet::read(path)?.plan(&options, tokens, facts, work)?);
        }
        for path in &self.choices {
            let choices = Choices::read(path)?.plan(tokens, facts, work)?;
            if measures.iter().any(|other| other.measure() == choices.measure()) {
                let message = format!("two files of --choices would both be called {}", choices.measure());
                return Err(Failure::usage(message, "measures are named by their files: give them different names"));
            }
            measures.push(choices);
        }
        if let Some(path) = &self.perplexity {
            for perplexity in self.perplexities(facts) {
                measures.push(perplexity.plan(&self.text(path, perplexity)?, tokens, facts, work)?);
            }
            // The divergence is that of an edited model from the unedited one.
            if self.kl && has_patch {
                let options = DivergenceOptions { most_positions: self.kl_positions, seed: self.seed };
                let text = Text::read(path, self.text_options(Unit::Line))?;
                measures.push(options.plan(&text, tokens, facts, work)?);
            }
        }
        if let Some(path) = &self.prompts {
            let ends = model.config().end_tokens(directory)?;
            *generation = Some(Generation::read(path, self.prompt_tokens, ends, tokenizer.clone(), facts)?);
        }
        let not_measured = |error: NotMeasured| Failure::usage(format!("--expect: {error}"), "name one of these");
        Expectation::check(&self.expect, &plan.measured()).map_err(not_measured)?;
        let measures: Vec<&str> = self.expect.iter().map(Expectation::measure).collect();
        if let Some(at) = (1..measures.len()).find(|at| measures[..*at].contains(&measures[*at])) {
            let message = format!("--expect: a direction of {} is stated twice", measures[at]);
            return Err(Failure::usage(message, "state it once"));
        }
        if measures.contains(&"kl") {
            let message = "--expect: kl is never below 0, so that its change is not tested";
            return Err(Failure::usage(message, "leave it out"));
        }
        Ok(())
    }

    fn weat_options(&self) -> WeatOptions {
        let layers = if self.weat_embeddings { LayerChoice::WithEmbeddings } else { LayerChoice::Hidden };
        let encoding = match self.weat_encoding {
            Encoding::Biasbench => WordEncoding::BiasBench,
            Encoding::Wordpiece => WordEncoding::WordPieces(layers),
            Encoding::Cls => WordEncoding::Cls,
            Encoding::First => WordEncoding::First,
        };
        let ddof = match self.ddof {
            DdofNumber::Zero => Ddof::Zero,
            DdofNumber::One => Ddof::One,
        };
        WeatOptions { encoding, ddof, seed: self.seed, ..WeatOptions::default() }
    }

    fn perplexities(&self, facts: &ModelFacts) -> Vec<Perplexity> {
        let (most_tokens, seed) = (self.max_tokens, self.seed);
        let pseudo = |masking| Perplexity::Pseudo(PseudoOptions { masking, most_tokens, seed });
        let causal = || {
            let first = if self.first_token { FirstToken::Scored } else { FirstToken::Given };
            Perplexity::Causal(CausalOptions { window: self.window, stride: self.stride, first, most_tokens, seed })
        };
        let masked = || Perplexity::Masked(MaskedOptions { most_tokens, seed });
        let named = |name: &PerplexityName| match name {
            PerplexityName::Mlm => masked(),
            PerplexityName::Pseudo => pseudo(Masking::Token),
            PerplexityName::WithinWord => pseudo(Masking::WithinWord),
            PerplexityName::Causal => causal(),
        };
        match (self.ppl.is_empty(), facts.kind) {
            (true, ModelKind::Causal) => vec![causal()],
            (true, _) => vec![masked()],
            (false, _) => self.ppl.iter().map(named).collect(),
        }
    }

    fn text(&self, path: &Path, perplexity: Perplexity) -> Result<Text, Failure> {
        let unit = if matches!(perplexity, Perplexity::Causal(_)) { Unit::File } else { Unit::Line };
        Ok(Text::read(path, self.text_options(unit))?)
    }

    fn text_options(&self, unit: Unit) -> TextOptions {
        let headings = if self.no_headings { LinePolicy::LeaveOut } else { LinePolicy::Keep };
        // In a text that is one file, empty lines separate paragraphs.
        let empty_lines = if unit == Unit::File { LinePolicy::Keep } else { LinePolicy::LeaveOut };
        TextOptions { unit, empty_lines, headings }
    }
}

fn expectation(text: &str) -> Result<Expectation, String> {
    Expectation::parse(text).map_err(|error| error.to_string())
}

/// A test by its number, as in `8` or `weat8`, or by its file.
fn named(test: &str) -> Result<Weat, Failure> {
    let built_in = Weat::built_in(test).or_else(|| Weat::built_in(&format!("weat{test}")));
    match built_in {
        Some(weat) => Ok(weat),
        None if Path::new(test).exists() => Ok(Weat::read(Path::new(test))?),
        None => {
            let lists = Weat::names().map(|name| name.trim_start_matches("weat")).collect::<Vec<_>>().join(", ");
            let message = format!("--weat {test}: there is no such list, and no such file");
            Err(Failure::usage(message, format!("lists are {lists}")))
        }
    }
}
