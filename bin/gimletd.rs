//! The rendezvous. See [`gimlet::cli`].
fn main() -> std::process::ExitCode {
    gimlet::cli::gimletd::main()
}
