//! Entry point of the `photoshare` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    photoshare_server::cli::main()
}
