//! `config.txt` and `cmdline.txt`: the station's address goes in, and the lines of the device's project.

use bytes::Bytes;

const CONFIG: &str = include_str!("../../bootfiles/config.txt");
const CMDLINE: &str = include_str!("../../bootfiles/cmdline.txt");

/// What goes into a template.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filling {
    /// What `{server}` becomes.
    pub server: String,
    /// Lines of the project, for `config.txt` alone.
    pub lines: Option<String>,
}

/// The text that is served where the folder has no such file. Every template has one.
pub fn built_in(path: &str) -> Option<&'static str> {
    match path {
        "config.txt" => Some(CONFIG),
        "cmdline.txt" => Some(CMDLINE),
        _ => None,
    }
}

impl Filling {
    /// Other braces are for the device to fill in.
    pub fn render(&self, template: &[u8]) -> Bytes {
        let mut text = String::from_utf8_lossy(template).into_owned();
        if let Some(lines) = &self.lines {
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            // Whatever filter the file ends with, these lines are for every board of the project.
            text.push_str("\n[all]\n");
            text.push_str(lines);
            if !lines.ends_with('\n') {
                text.push('\n');
            }
        }
        text.replace("{server}", &self.server).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(template: &str, lines: Option<&str>) -> String {
        let filling = Filling { server: "10.0.0.1".to_owned(), lines: lines.map(str::to_owned) };
        String::from_utf8(filling.render(template.as_bytes()).to_vec()).unwrap()
    }

    #[test]
    fn the_lines_of_a_project_stand_last_and_for_all_boards() {
        assert_eq!(rendered("[cm4]\na=1", Some("b=2")), "[cm4]\na=1\n\n[all]\nb=2\n");
        assert_eq!(rendered("", Some("b={server}\n")), "\n[all]\nb=10.0.0.1\n");
        assert_eq!(rendered("x={server} y={serial}", None), "x=10.0.0.1 y={serial}");
    }

    #[test]
    fn the_built_in_texts_fit_old_firmware() {
        assert!(CONFIG.len() < 3000 && CONFIG.contains("\ninitramfs scriptexecute.img followkernel\n"));
        assert_eq!(CMDLINE.lines().count(), 1);
    }
}
