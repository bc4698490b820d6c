//! Shell completions and the man page, made from the arguments themselves.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use crate::cli::exit;

/// Completions for a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "Example:\n  bootline completions bash > /usr/share/bash-completion/completions/bootline")]
pub struct Completions {
    shell: Shell,
}

pub fn completions(args: &Completions, mut command: Command) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut command, "bootline", &mut text);
    print(&text)
}

/// One page: the program, and every subcommand behind it.
pub fn man(mut command: Command) -> ExitCode {
    command.build();
    let mut page = Vec::new();
    let rendered = render(&command, &mut page);
    match rendered {
        Ok(()) => print(&page),
        Err(error) => exit::say(exit::IO, &error.into()),
    }
}

fn render(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    let whole = clap_mangen::Man::new(command.clone());
    whole.render_title(page)?;
    whole.render_name_section(page)?;
    whole.render_synopsis_section(page)?;
    whole.render_description_section(page)?;
    whole.render_options_section(page)?;
    subcommands(command, page)?;
    whole.render_version_section(page)
}

fn subcommands(command: &Command, page: &mut Vec<u8>) -> io::Result<()> {
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set() && verb.get_name() != "help") {
        let name = verb.get_bin_name().unwrap_or_else(|| verb.get_name()).to_uppercase();
        writeln!(page, ".SH \"{name}\"")?;
        let part = clap_mangen::Man::new(verb.clone());
        let mut text = Vec::new();
        part.render_synopsis_section(&mut text)?;
        part.render_description_section(&mut text)?;
        part.render_options_section(&mut text)?;
        // Inside one page the parts of a command stand one level lower.
        page.extend(String::from_utf8_lossy(&text).replace(".SH ", ".SS ").bytes());
        subcommands(verb, page)?;
    }
    Ok(())
}

fn print(text: &[u8]) -> ExitCode {
    match io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => exit::say(exit::IO, &error.into()),
    }
}
