//! `lcepatch completions`.

use super::exit::print_text;
use super::{Answer, Outcome};
use clap::{Args, ValueEnum};
use clap_complete::Shell as Known;
use clap_complete::generate;
use clap_complete_nushell::Nushell;

#[derive(Args)]
#[command(after_help = "\
Where each shell looks for it, for a single user:
  bash        lcepatch completions bash > ~/.local/share/bash-completion/completions/lcepatch
  zsh         lcepatch completions zsh > ~/.zfunc/_lcepatch, a directory in $fpath before compinit
  fish        lcepatch completions fish > ~/.config/fish/completions/lcepatch.fish
  powershell  lcepatch completions powershell >> $PROFILE
  elvish      lcepatch completions elvish >> ~/.config/elvish/rc.elv
  nushell     lcepatch completions nushell > ~/.config/nushell/autoload/lcepatch.nu

Examples:
  source <(lcepatch completions bash)                       for this session only
  lcepatch completions fish | source")]
pub struct Arguments {
    /// The shell
    shell: ShellName,
}

// Comments on its values would be in the help.
/// The shells that clap writes completions for.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
    #[value(name = "powershell")]
    PowerShell,
    Elvish,
    Nushell,
}

/// Prints the completions of `command`.
pub fn run(arguments: &Arguments, mut command: clap::Command) -> Outcome {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    let known = match arguments.shell {
        ShellName::Bash => Some(Known::Bash),
        ShellName::Zsh => Some(Known::Zsh),
        ShellName::Fish => Some(Known::Fish),
        ShellName::PowerShell => Some(Known::PowerShell),
        ShellName::Elvish => Some(Known::Elvish),
        ShellName::Nushell => None,
    };
    match known {
        Some(shell) => generate(shell, &mut command, name, &mut script),
        None => generate(Nushell, &mut command, name, &mut script),
    }
    print_text(&script)?;
    Ok(Answer::Yes)
}
