//! `completions` and `man`: the command line for shells and for `man`.

use super::call::Call;
use super::failure::{DONE, Outcome};
use clap::Args;

const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  dostore completions bash > dostore.bash
  dostore completions zsh > _dostore";

const MAN_EXAMPLES: &str = "\
Examples:
  dostore man > dostore.1
  dostore man history > dostore-history.1";

/// Prints a script by which a shell completes the command line
#[derive(Debug, Args)]
#[command(after_help = COMPLETIONS_EXAMPLES)]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh
    #[arg(value_enum, hide_possible_values = true)]
    shell: clap_complete::Shell,
}

impl Completions {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut super::described(), "dostore", &mut script);
        call.bytes(&script)?;
        Ok(DONE)
    }
}

/// Prints a page of the manual: of the command, or of one verb
#[derive(Debug, Args)]
#[command(after_help = MAN_EXAMPLES)]
pub struct Man {
    /// The verb
    verb: Option<String>,
}

impl Man {
    pub fn run(&self, call: &mut Call<'_>) -> Outcome {
        let mut command = super::described();
        command.build();
        if let Some(verb) = &self.verb {
            let names: Vec<_> =
                command.get_subcommands().map(|it| it.get_name().to_owned()).collect();
            let Some(found) = command.find_subcommand(verb) else {
                let near = super::place::nearest(verb, names.into_iter());
                let near = near.map_or(String::new(), |near| format!("; is {near} meant?"));
                return Err(super::usage(format!("there is no verb {verb}{near}")));
            };
            command = found.clone();
        }
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        call.bytes(&page)?;
        Ok(DONE)
    }
}
