use super::{Answer, Outcome};
#[derive(clap::Args)]
pub struct Arguments {}
pub fn run(_a: &Arguments) -> Outcome {
    Ok(Answer::Yes)
}
