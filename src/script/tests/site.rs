//! Scripts of the site, and what a device is told of itself.

use super::*;
use crate::core::script::{DeviceData, OnFailure};
use crate::script::tests::world::Site;

fn job(preinstall: Vec<Site>, postinstall: Vec<Site>) -> Job {
    Job { preinstall, postinstall, ..Job::raw(MIB) }
}

fn warns(mut site: Site) -> Site {
    site.manner.on_failure = OnFailure::Warn;
    site
}

fn background(mut site: Site) -> Site {
    site.manner.background = true;
    site
}

const ODD: &str = "it's \"$(id)\" `x`\nsecond line";

fn data() -> DeviceData {
    let value = |name: &str, value: &str| (name.parse().unwrap(), value.to_owned());
    DeviceData {
        variables: [value("HOSTNAME", "gw-7"), value("ODD", ODD)].into(),
        secrets: [value("KEY", "hunter2")].into(),
    }
}

/// A job with one of each, for those who read the shell.
pub fn everything() -> Job {
    let data_file = Some("bootline.json".parse().unwrap());
    let sites = || vec![Site::new("a", "true"), background(warns(Site::new("b", "true")))];
    Job { data_file, ..job(sites(), sites()) }
}

#[test]
fn scripts_run_before_and_after_with_what_they_expect() {
    for world in World::both() {
        let words = "echo \"$SERIAL $SERVER $STORAGE $PART1 $PART2 ${TOKEN-none}\"";
        let job = job(vec![Site::new("first", words), Site::new("second", "echo 2 >&2")], vec![Site::new("last", ":")]);
        world.with_medium(2 * MIB);
        let station = job.station();
        let output = world.provision(&job, &station);
        assert!(output.status.success(), "{}: {output:?}", world.name);
        let steps = ["preinstall", "write", "verify", "postinstall"];
        let story: Vec<String> =
            steps.iter().flat_map(|step| [format!("{step} started"), format!("{step} completed")]).collect();
        assert_eq!(station.story(), [&story[..], &["finished".to_owned()]].concat(), "{}", world.name);
        let outputs = station.outputs.lock().unwrap().clone();
        let (address, medium) = (station.address, world.medium());
        let expected = format!("10000000a1b2c3d4 {address} {} /dev/mmcblk0p1 /dev/mmcblk0p2 none\n", medium.display());
        assert_eq!(outputs[0], ("first".to_owned(), expected), "{}", world.name);
        assert_eq!(outputs[1], ("second".to_owned(), "2\n".to_owned()), "{}", world.name);
        let reports = station.reports.lock().unwrap();
        let ran: Vec<&str> = values(&reports[1], "script").iter().filter_map(|run| run.split(' ').next()).collect();
        assert_eq!(ran, ["first", "second"], "{}", world.name);
        assert!(values(&reports[7], "script")[0].starts_with("last 0 "), "{}", world.name);
    }
}

#[test]
fn a_script_that_fails_before_the_write_leaves_the_medium_alone() {
    for world in World::both() {
        let job = job(vec![Site::new("burn-in", "echo too hot; exit 3"), Site::new("never", "echo no")], Vec::new());
        world.with_medium(2 * MIB);
        let station = job.station();
        let output = world.provision(&job, &station);
        world.assert_failed(&output, "script.failed");
        world.assert_untouched();
        assert_eq!(station.story(), ["preinstall started", "preinstall failed script.failed"], "{}", world.name);
        let detail = values(&station.reports.lock().unwrap()[1], "detail")[0].clone();
        assert_eq!(detail, "script burn-in ended with 3: too hot ", "{}", world.name);
        assert_eq!(*station.outputs.lock().unwrap(), [("burn-in".to_owned(), "too hot\n".to_owned())]);
    }
}

#[test]
fn a_script_that_fails_after_the_write_fails_the_session_and_the_module_netboots_again() {
    for world in World::both() {
        let job = job(Vec::new(), vec![Site::new("label", "exit 1")]);
        world.with_medium(2 * MIB);
        let station = job.station();
        world.assert_failed(&world.provision(&job, &station), "script.failed");
        world.assert_wiped();
        assert_eq!(station.story().last().map(String::as_str), Some("postinstall failed script.failed"));
    }
}

#[test]
fn a_script_may_fail_with_a_warning() {
    for world in World::both() {
        let job = job(vec![warns(Site::new("label", "exit 7"))], Vec::new());
        world.with_medium(2 * MIB);
        let station = job.station();
        assert!(world.provision(&job, &station).status.success(), "{}", world.name);
        let reports = station.reports.lock().unwrap();
        assert_eq!(values(&reports[1], "warning"), ["script label ended with 7"], "{}", world.name);
        assert!(values(&reports[1], "script")[0].starts_with("label 7 "), "{}", world.name);
    }
}

#[test]
fn a_script_that_takes_too_long_is_ended_with_all_that_it_has_started() {
    for world in World::both() {
        let mut slow = Site::new("slow", "sleep 600 & sleep 600; echo never");
        slow.manner.timeout_s = 1;
        let job = job(vec![slow], Vec::new());
        world.with_medium(2 * MIB);
        let station = job.station();
        world.assert_failed(&world.provision(&job, &station), "script.failed");
        let detail = values(&station.reports.lock().unwrap()[1], "detail")[0].clone();
        assert!(detail.starts_with("script slow was ended because it took too long"), "{}: {detail}", world.name);
    }
}

#[test]
fn a_script_in_the_background_runs_beside_the_write_and_is_waited_for() {
    for world in World::both() {
        let flag = world.folder().join("flag");
        let text = format!("while [ ! -e '{}' ]; do sleep 1; done; echo saw it", flag.display());
        let after = format!(": >'{}'", flag.display());
        let job = job(vec![background(Site::new("beside", &text))], vec![Site::new("flag", &after)]);
        world.with_medium(2 * MIB);
        let station = job.station();
        let output = world.provision(&job, &station);
        assert!(output.status.success(), "{}: {output:?}", world.name);
        let outputs = station.outputs.lock().unwrap().clone();
        assert_eq!(outputs, [("beside".to_owned(), "saw it\n".to_owned())], "{}", world.name);
        let reports = station.reports.lock().unwrap();
        let ends = values(&reports[7], "script");
        assert!(ends[0].starts_with("flag 0 ") && ends[1].starts_with("beside 0 "), "{}: {ends:?}", world.name);
    }
}

#[test]
fn a_session_that_fails_leaves_no_script_behind() {
    for world in World::both() {
        let mark = world.folder().join("alive");
        let text = format!("trap '' TERM; while :; do : >'{}'; sleep 1; done", mark.display());
        let job = job(vec![background(Site::new("beside", &text)), Site::new("wrong", "exit 1")], Vec::new());
        world.with_medium(2 * MIB);
        world.assert_failed(&world.provision(&job, &job.station()), "script.failed");
        let folder = world.folder().display().to_string();
        let left: Vec<String> = fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok())
            .filter(|line| line.contains(&folder))
            .collect();
        assert!(left.is_empty(), "{}: {left:?}", world.name);
    }
}

#[test]
fn output_beyond_a_mebibyte_is_cut_and_the_station_is_told_that_there_was_more() {
    for world in World::both() {
        let job = job(vec![Site::new("chatty", "head -c 3000000 /dev/zero | tr '\\0' x")], Vec::new());
        world.with_medium(2 * MIB);
        let station = job.station();
        assert!(world.provision(&job, &station).status.success(), "{}", world.name);
        assert_eq!(station.outputs.lock().unwrap()[0].1.len(), MIB + 1, "{}", world.name);
    }
}

#[test]
fn a_script_has_what_the_device_is_told_of_itself_as_data() {
    for world in World::both() {
        let text = "printf '%s|%s|%s' \"$HOSTNAME\" \"$ODD\" \"$KEY\"";
        let job = Job { data: data(), ..job(vec![Site::new("names", text)], Vec::new()) };
        world.with_medium(2 * MIB);
        let station = job.station();
        let output = world.provision(&job, &station);
        assert!(output.status.success(), "{}: {output:?}", world.name);
        let said = station.outputs.lock().unwrap()[0].1.clone();
        assert_eq!(said, format!("gw-7|{ODD}|hunter2"), "{}", world.name);
        assert!(!String::from_utf8_lossy(&output.stdout).contains("hunter2"), "{}", world.name);
    }
}

/// A boot partition that is a folder: what is mounted is its content. In dash alone, for BusyBox has a `mount` of its own
/// and takes no other.
fn mountable(world: &mut World, job: &Job, station: &Station) -> String {
    let partition = world.folder().join("partition");
    fs::create_dir_all(&partition).unwrap();
    let at = partition.display().to_string();
    world.stub("mount", &format!("for last; do :; done; cp -a '{at}/.' \"$last\""));
    world.stub("umount", &format!("cp -a \"$1/.\" '{at}/'; rm -rf \"$1\"/*"));
    let script = world.script(job, station);
    script.replacen("PART1='/dev/mmcblk0p1'\n", &format!("PART1='{at}'\n"), 1)
}

#[test]
fn what_a_device_is_told_is_written_into_a_file_of_its_boot_partition() {
    let [mut world, _] = World::both();
    let job = Job { data: data(), data_file: Some("bootline.json".parse().unwrap()), ..Job::raw(MIB) };
    world.with_medium(2 * MIB);
    let station = job.station();
    let script = mountable(&mut world, &job, &station);
    let output = world.run(&script);
    assert!(output.status.success(), "{}: {output:?}", world.name);
    let written = fs::read(world.folder().join("partition/bootline.json")).unwrap();
    let written: serde_json::Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(written, serde_json::json!({"HOSTNAME": "gw-7", "ODD": ODD, "KEY": "hunter2"}), "{}", world.name);
}

#[test]
fn a_boot_partition_that_cannot_be_mounted_or_forgets_fails_the_session() {
    let [mut world, _] = World::both();
    let job = Job { data: data(), data_file: Some("bootline.json".parse().unwrap()), ..Job::raw(MIB) };
    world.with_medium(2 * MIB);
    let station = job.station();
    let script = mountable(&mut world, &job, &station);
    world.stub("umount", "rm -rf \"$1\"/*");
    world.assert_failed(&world.run(&script), "data.mismatch");
    world.stub("mount", "echo no such filesystem >&2; exit 1");
    world.assert_failed(&world.run(&script), "data.mount");
    world.assert_wiped();
}
