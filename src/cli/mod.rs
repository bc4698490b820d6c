//! The command line: one file a subcommand, each thin.

mod backup;
mod bootfiles;
mod cage;
mod check;
mod demo;
mod exit;
mod figures;
mod interrupt;
mod label;
mod mix;
mod paper;
mod remote;
mod run;
mod schema;
mod simulate;
mod size;
mod switch;
mod tally;
mod token;
mod tools;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::cli::remote::{At, FirmwareVerb, ImageVerb, ProjectVerb, StationVerb};

/// Netboots bare Raspberry Pi modules, writes the right image on each, proves it, and tells the factory.
#[derive(Parser, Debug)]
#[command(name = "bootline", version, about, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Demo(demo::Args),
    Simulate(simulate::Args),
    Schema(schema::Args),
    Backup(backup::BackupArgs),
    Restore(backup::RestoreArgs),
    #[command(subcommand)]
    Bootfiles(bootfiles::Verb),
    #[command(subcommand)]
    Switch(switch::Verb),
    #[command(subcommand)]
    Token(token::Verb),
    /// Recipes: which image goes onto devices
    Project(At<ProjectVerb>),
    /// Images of the library
    Image(At<ImageVerb>),
    /// EEPROM images of the library
    Firmware(At<FirmwareVerb>),
    Sessions(remote::Sessions),
    Devices(remote::Devices),
    Events(remote::Events),
    Alarms(remote::Alarms),
    Slots(remote::Slots),
    /// The station at a glance, and whether it takes new devices
    Station(At<StationVerb>),
    Ready(remote::Ready),
    Completions(paper::Completions),
    /// The manual page, for man(1)
    #[command(after_help = "Example:\n  bootline man > /usr/share/man/man1/bootline.1")]
    Man,
    #[command(subcommand)]
    Label(label::Verb),
    #[command(hide = true)]
    Cage(cage::Args),
}

/// No thread exists yet: some subcommands enter namespaces of their own.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let wrong = error.use_stderr();
            drop(error.print());
            return if wrong { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(args),
        Command::Demo(args) => demo::run(args),
        Command::Schema(args) => schema::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Backup(args) => backup::backup(args),
        Command::Restore(args) => backup::restore(args),
        Command::Bootfiles(verb) => bootfiles::run(verb),
        Command::Switch(verb) => switch::run(verb),
        Command::Token(verb) => token::run(verb),
        Command::Project(at) => remote::project(at),
        Command::Image(at) => remote::image(at),
        Command::Firmware(at) => remote::firmware(at),
        Command::Sessions(args) => remote::sessions(args),
        Command::Devices(args) => remote::devices(args),
        Command::Events(args) => remote::events(args),
        Command::Alarms(args) => remote::alarms(&args),
        Command::Slots(args) => remote::slots(&args),
        Command::Station(at) => remote::station(at),
        Command::Ready(args) => remote::ready(&args),
        Command::Completions(args) => paper::completions(&args, Cli::command()),
        Command::Man => paper::man(Cli::command()),
        Command::Label(verb) => label::run(verb),
        Command::Cage(args) => cage::run(&args),
    }
}
