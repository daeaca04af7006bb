//! The load generator. See [`gimlet::bench`].
fn main() -> std::process::ExitCode {
    gimlet::bench::main()
}
