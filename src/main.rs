//! The `hoptrail` command. Knows nothing but where the command line begins.

use std::process::ExitCode;

fn main() -> ExitCode {
    hoptrail::cli::run()
}
