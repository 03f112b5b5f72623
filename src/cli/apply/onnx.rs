//! `lcepatch apply` to an ONNX file.

use super::super::exit::{Failure, after};
use super::super::terminal::Terminal;
use super::{Answer, Arguments, Outcome, edits, plan_options, report};
use crate::apply::{Done, OnnxBase};
use crate::durable::{Existing, check_new_file};

pub fn run(arguments: &Arguments, existing: Existing, terminal: &Terminal) -> Outcome {
    let unsupported = [
        ("--in-place", arguments.in_place, "write the result elsewhere with -o; the base stays as it is"),
        ("--undo", arguments.undo.is_some(), "keep the base, which stays as it is"),
        ("--keep-mask", arguments.keep_mask.is_some(), "take the mask of the checkpoint that it was exported from"),
        ("--allow-different-base", arguments.allow_different_base, "apply to the checkpoint, and export the result"),
        (
            "--map-prefix",
            !arguments.map_prefix.is_empty(),
            "leave it out: weights are recognized by content, not by name",
        ),
    ];
    if let Some((flag, _, help)) = unsupported.into_iter().find(|(_, given, _)| *given) {
        return Err(Failure::usage(format!("{flag} does not go with an ONNX file"), help));
    }
    let Some(output) = &arguments.output else {
        return Err(Failure::usage("there is no output", "say where to write the result with -o"));
    };
    check_new_file(output, existing)?;
    let context = terminal.context();
    let ((edits, signers), options) = (edits(arguments, terminal)?, plan_options(arguments));
    let base = OnnxBase::open(
        &terminal.sources().file(&arguments.base, &context)?,
        edits.iter().map(|edit| &edit.patch),
        &context,
    )?;
    let plan = base.plan(&edits, &options, &context)?;
    let applied = base.write(&plan, output, existing, &context)?;
    terminal.done();
    let done = Done { applied, is_reference: false, added: plan.is_added(), undo: None };
    let external_weights = &base.outputs(output)[1..];
    after(report(arguments, output, &edits, &done, external_weights, &signers, terminal))?;
    Ok(Answer::Yes)
}
