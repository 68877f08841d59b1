//! The `dostore` binary.

fn main() -> std::process::ExitCode {
    dostore::cli::run()
}
