//! A peer. See [`gimlet::cli`].
fn main() -> std::process::ExitCode {
    gimlet::cli::gimlet::main()
}
