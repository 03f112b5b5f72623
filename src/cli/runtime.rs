//! `lcepatch runtime`.

use super::exit::{json_path, print, print_json};
use super::terminal::Terminal;
use super::{Answer, Outcome, advice};
use crate::model::runtime::{Build, Provider, RuntimeFault, about, find, install, load};
#[cfg(feature = "net")]
use crate::{context::Context, model::runtime::Wheel};
use clap::{Args, Subcommand};
#[cfg(feature = "net")]
use lcepatch_hub::{http::Http, python_index, settings::Settings};
use serde_json::json;
#[cfg(feature = "net")]
use std::{fs::File, sync::Arc, time::Duration};

#[derive(Args)]
#[command(after_help = "\
The commands that run models (`ask`, `verify`, `sweep`) use ONNX Runtime, a library that is not part of this program. It is looked for \
in this order: the file that ORT_DYLIB_PATH names, the one that `lcepatch runtime install` installed, a library of the system, the \
onnxruntime package of the active virtual environment.

Examples:
  lcepatch runtime status
  lcepatch runtime install
  lcepatch runtime install --cuda")]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Install ONNX Runtime into your data directory
    Install(Install),
    /// Say which ONNX Runtime would be used, and whether it works
    Status(Status),
}

#[derive(Args)]
#[command(after_help = "\
A pinned version is downloaded from the index of Python packages that your pip is set up for (PIP_INDEX_URL, pip.conf), by pip itself \
if that needs more than an address. Its SHA-256 is compared with the published one, and that of the library again whenever it is loaded. \
It is installed into $LCEPATCH_HOME, or else into the folder lcepatch of your data directory.

CUDA's own libraries are not part of ONNX Runtime. They are loaded from where the system's loader finds them (LD_LIBRARY_PATH), \
or from NVIDIA's packages in the active virtual environment or in python3's: nvidia-cuda-runtime, nvidia-cublas, nvidia-curand, \
nvidia-cufft, nvidia-cuda-nvrtc (CUDA 13), nvidia-cudnn-cu13. PyTorch for CUDA 13 brings most of them.")]
struct Install {
    /// The build for NVIDIA GPUs (CUDA 13)
    #[arg(long)]
    cuda: bool,
    /// Download it again, and replace the installed one
    #[arg(long)]
    force: bool,
}

#[derive(Args)]
#[command(
    after_help = "The exit code is 1 if there is no ONNX Runtime, and 8 if the one that would be used does not work."
)]
struct Status {
    /// Look for a build with CUDA
    #[arg(long)]
    cuda: bool,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments, terminal: &Terminal) -> Outcome {
    match &arguments.command {
        Command::Install(arguments) => run_install(arguments, terminal),
        Command::Status(arguments) => run_status(arguments, terminal),
    }
}

fn run_install(arguments: &Install, terminal: &Terminal) -> Outcome {
    let build = if arguments.cuda { Build::Cuda } else { Build::Cpu };
    #[cfg(feature = "net")]
    let installed = install(build, arguments.force, Some(&download), &terminal.context())?;
    #[cfg(not(feature = "net"))]
    let installed = install(build, arguments.force, None, &terminal.context())?;
    terminal.done();
    let state = if installed.before { "is installed already" } else { "installed" };
    print(format_args!("{} {state}: {}", build.folder(), installed.library.display()))?;
    if arguments.cuda {
        terminal
            .note("it does not contain CUDA's own libraries; `lcepatch runtime status --cuda` says what is missing");
    }
    Ok(Answer::Yes)
}

/// Downloads a wheel from the index that pip would use.
#[cfg(feature = "net")]
fn download(wheel: &Wheel, to: &mut File, context: &Context<'_>) -> Result<(), String> {
    let index = python_index::of_pip(|name| std::env::var(name).ok());
    let index = index.ok_or("the index of Python packages that is set up needs pip")?;
    let mut settings = Settings::from_environment().map_err(|fault| fault.to_string())?;
    // Where it fails, pip is next.
    settings.back_off = Duration::from_millis(50);
    let http = Http::new(Arc::new(settings), Arc::new(|_| {}));
    let fetched = python_index::download(&http, &index, (wheel.project, &wheel.file), to, context);
    fetched.map_err(|fault| fault.to_string())
}

fn run_status(arguments: &Status, terminal: &Terminal) -> Outcome {
    let provider = if arguments.cuda { Provider::Cuda { device: 0 } } else { Provider::Cpu };
    let found = match find(provider) {
        Ok(found) => found,
        Err(fault @ RuntimeFault::NotFound { .. }) => {
            if arguments.json {
                let (places, help) = (fault.details(), advice::runtime(&fault));
                print_json(
                    terminal,
                    &json!({ "provider": provider.label(), "library": null, "looked": places, "help": help }),
                )?;
            } else {
                print(&fault)?;
                for place in fault.details() {
                    print(format_args!("  {place}"))?;
                }
                print(advice::runtime(&fault).unwrap_or_default())?;
            }
            return Ok(Answer::No);
        }
        Err(fault) => return Err(fault.into()),
    };
    let environment = load(&found)?;
    let about = about(&found, &environment)?;
    if arguments.json {
        print_json(
            terminal,
            &json!({
                "provider": provider.label(),
                "library": json_path(&found.library),
                "reason": found.origin.label(),
                "version": about.version,
                "build": about.build,
                "providers": about.providers,
            }),
        )?;
    } else {
        print(format_args!("ONNX Runtime {}: {}", about.version, found.library.display()))?;
        print(format_args!("  {}", found.origin.label()))?;
        print(format_args!("  providers: {}; {} works", about.providers.join(", "), provider.label()))?;
    }
    Ok(Answer::Yes)
}
