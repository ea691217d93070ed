//! What a VM file is refused for, and that a bad one does not hide the good ones.

use super::*;

const DESK: &str = r#"
id = "6f1c2a9e-0000-4000-8000-000000000001"
name = "desk-1"
memory_mib = 128
kernel = "vmlinux"
initrd = "initramfs.cpio"
append = "quiet"
[[nic]]
network = "management"
bridge = "brmgmt"
mac = "52:54:00:01:00:0A"
addresses = ["10.1.0.101"]
[[nic]]
network = "service"
bridge = "brsvc"
mac = "52:54:00:02:00:01"
addresses = ["10.2.0.101"]
[[probe]]
probe = "rdp"
network = "service"
settings = { port = 3389 }
[labels]
team = "a"
"#;

const LOCAL: &str = r#"
id = "6f1c2a9e-0000-4000-8000-000000000002"
name = "desk-2"
[local]
address = "127.0.10.1"
rdp_port = 23389
[[probe]]
probe = "rdp"
network = "service"
settings = { port = 23389 }
"#;

fn write(dir: &Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
}

#[test]
fn a_file_becomes_the_spec_that_managers_see() {
    let spec = VmFile::parse(DESK, DriverKind::Qemu).unwrap().spec();
    assert_eq!(spec.addresses.get(&Network::Service).unwrap(), &["10.2.0.101".parse::<IpAddr>().unwrap()]);
    assert_eq!(spec.probes[0].settings, r#"{"port":3389}"#);
    let local = VmFile::parse(LOCAL, DriverKind::Local).unwrap().spec();
    let on = |network| local.addresses.get(&network).unwrap();
    assert_eq!(on(Network::Management), on(Network::Service));
}

#[test]
fn a_bad_file_is_told_with_field_value_and_rule() {
    for (text, driver, from, to, words) in [
        (DESK, DriverKind::Qemu, "name = \"desk-1\"", "name = \"desk-1", vec!["line 3"]),
        (DESK, DriverKind::Qemu, "append", "apend", vec!["apend"]),
        (DESK, DriverKind::Qemu, "6f1c2a9e-", "6f1c2a9", vec!["id"]),
        (DESK, DriverKind::Qemu, "52:54:00:01", "52:54:00", vec!["nic.mac", "six pairs"]),
        (DESK, DriverKind::Qemu, "52:54:00:01", "53:54:00:01", vec!["nic.mac", "multicast"]),
        (DESK, DriverKind::Qemu, "memory_mib = 128", "", vec!["memory_mib", "unset"]),
        (DESK, DriverKind::Qemu, "kernel = \"vmlinux\"", "", vec!["kernel", "disk"]),
        (DESK, DriverKind::Qemu, "append", "on_panic = \"reboot\"\nappend", vec!["on_panic", "pause", "continue"]),
        (DESK, DriverKind::Qemu, "append", "datastore = \"\"\nappend", vec!["datastore", "1 to 256 bytes"]),
        (DESK, DriverKind::Local, "", "", vec!["local", "unset"]),
        (LOCAL, DriverKind::Local, "127.0.10.1", "10.0.0.1", vec!["local.address", "10.0.0.1", "loopback"]),
        (LOCAL, DriverKind::Local, "\"rdp\"", "\"ping\"", vec!["probe", "ping", "loopback"]),
        (LOCAL, DriverKind::Qemu, "", "", vec!["local", "driver"]),
    ] {
        let message = VmFile::parse(&text.replacen(from, to, 1), driver).expect_err("must be refused");
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    }
}

#[test]
fn what_a_manager_would_refuse_a_whole_report_for_is_refused_here() {
    let parse = |from: &str, to: String| VmFile::parse(&DESK.replacen(from, &to, 1), DriverKind::Qemu);
    let team = |length: usize| parse("team = \"a\"", format!("team = \"{}\"", "a".repeat(length)));
    assert!(team(LABEL_TEXT_MAX).is_ok());
    assert!(team(LABEL_TEXT_MAX + 1).unwrap_err().contains("labels.team"));
    let labels = |count: usize| parse("team = \"a\"", (0..count).map(|i| format!("l{i} = \"a\"\n")).collect());
    assert!(labels(LABELS_MAX).is_ok());
    assert!(labels(LABELS_MAX + 1).unwrap_err().contains("labels = 65"));
    let store = |length: usize| parse("append", format!("datastore = \"{}\"\nappend", "s".repeat(length)));
    assert!(store(NAME_TEXT_MAX).is_ok() && store(NAME_TEXT_MAX + 1).is_err());
    // `{"name":""}` is the rest of it.
    let settings = |length: usize| parse("port = 3389", format!("name = \"{}\"", "p".repeat(length - 11)));
    assert!(settings(SETTINGS_MAX).is_ok());
    assert!(settings(SETTINGS_MAX + 1).unwrap_err().contains("probe.settings"));
}

#[test]
fn two_files_with_one_id_mac_or_address_are_an_error_that_names_both() {
    let unique = [
        ("6f1c2a9e-0000-4000-8000-000000000001", "6f1c2a9e-0000-4000-8000-000000000009", "id"),
        ("52:54:00:02:00:01", "52:54:00:02:00:09", "nic.mac"),
        ("10.2.0.101", "10.2.0.109", "address"),
        ("52:54:00:01:00:0A", "52:54:00:01:00:09", ""),
        ("10.1.0.101", "10.1.0.109", ""),
    ];
    for claim in ["id", "nic.mac", "address"] {
        let dir = tempfile::tempdir().unwrap();
        let other =
            unique.iter().filter(|u| u.2 != claim).fold(DESK.to_owned(), |t, (from, to, _)| t.replace(from, to));
        write(dir.path(), "a.toml", DESK);
        write(dir.path(), "b.toml", &other);
        let folder = VmFolder::read(dir.path(), DriverKind::Qemu, &BTreeSet::new()).unwrap();
        assert_eq!(folder.files.len(), 1, "{claim}");
        let message = folder.errors[0].to_string();
        assert!(message.contains("b.toml") && message.contains("a.toml") && message.contains(claim), "{message}");
    }
}

#[test]
fn a_vm_that_is_known_keeps_its_address_against_an_earlier_file_name() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "z.toml", LOCAL);
    write(dir.path(), "a.toml", &LOCAL.replace("000000000002", "000000000003"));
    write(dir.path(), "notes.txt", "no VM");
    let known: VmId = "6f1c2a9e-0000-4000-8000-000000000002".parse().unwrap();
    let folder = VmFolder::read(dir.path(), DriverKind::Local, &BTreeSet::from([known])).unwrap();
    assert!(folder.files.contains_key(&known));
    assert!(folder.errors[0].path.ends_with("a.toml"));
}

#[test]
fn a_bad_file_does_not_hide_the_good_ones() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.toml", "id = 7");
    write(dir.path(), "b.toml", LOCAL);
    let folder = VmFolder::read(dir.path(), DriverKind::Local, &BTreeSet::new()).unwrap();
    assert_eq!((folder.files.len(), folder.errors.len()), (1, 1));
    assert!(folder.errors[0].to_string().contains("a.toml"));
}
