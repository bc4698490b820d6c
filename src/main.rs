//! temporary
use std::process::ExitCode;
use bootline::cli;
use clap::Parser;
#[derive(Parser)]
enum Cli {
    #[command(hide = true)]
    Cage(cli::cage::Args),
    Simulate(cli::simulate::Args),
}
fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse() {
        Cli::Cage(args) => Ok(cli::cage::run(&args)),
        Cli::Simulate(args) => cli::simulate::run(&args),
    }
}
