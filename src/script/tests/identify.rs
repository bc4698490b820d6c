//! A module that is asked to blink does, and shows afterwards what it showed before.

use std::fs;

use crate::script::tests::station::{Image, Say, Station};
use crate::script::tests::world::{Job, MIB, Site, World};

#[test]
fn a_module_blinks_while_it_is_asked_to_and_only_then() {
    for world in World::both() {
        let led = world.leds().join("led0");
        fs::create_dir_all(&led).unwrap();
        fs::write(led.join("trigger"), "none [mmc0] timer\n").unwrap();
        fs::write(led.join("brightness"), "3\n").unwrap();
        let tell = format!("cat {0}/trigger {0}/brightness", led.display());
        let wait = format!("until [ -e {0}/delay_off ]; do sleep 1; done; {tell} {0}/delay_on", led.display());
        let job = Job {
            preinstall: vec![Site::new("wait", &wait)],
            postinstall: vec![Site::new("tell", &tell)],
            ..Job::raw(MIB)
        };
        let image = Image { identify_in: Some("preinstall"), ..job.image() };
        let station = Station::start(image, |_, _| Say::Status(200));
        world.with_medium(MIB);
        let output = world.provision(&job, &station);
        assert!(output.status.success(), "{}: {output:?}", world.name);
        let outputs = station.outputs.lock().unwrap();
        let printed: Vec<&str> = outputs.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(printed, ["timer\n3\n50\n", "mmc0\n3\n"], "{}", world.name);
    }
}
