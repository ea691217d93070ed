//! Bad input, as a user meets it: each daemon, the command line and the API refuse it with one message that names what
//! is wrong and the rule, with a documented exit code or problem type, and leave everything as it was.

mod running;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{self, Command, Stdio},
    time::Duration,
};

use vouch_tests::process::Process;
use vouch_tests::{paths, wait};

/// How long a daemon may take to refuse; one that has not by then has taken the bad input.
const REFUSED: Duration = Duration::from_secs(20);
const VM_ID: &str = "6f1c2a9e-0000-4000-8000-000000000001";

// ---- The daemons ----

/// What a good manager and a good node need, in a folder of its own and on an address of its own.
struct Bed {
    folder: tempfile::TempDir,
    ip: Ipv4Addr,
    ports: [u16; 3],
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("vb").tempdir().expect("a folder");
        let [.., high, low] = process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, 113, high, low.max(1));
        let free: Vec<_> = (0..3).map(|_| TcpListener::bind((ip, 0)).expect("a free port")).collect();
        let port = |i: usize| free[i].local_addr().expect("it is bound").port();
        let bed = Self { folder, ip, ports: [port(0), port(1), port(2)] };
        let pki = bed.path("pki");
        let pki = pki.to_str().expect("a plain path");
        bed.make(&["pki", "init", pki]);
        for (role, id) in [("manager", "m1"), ("manager", "m2"), ("node", "n1")] {
            bed.make(&["pki", "issue", "--role", role, "--id", id, pki]);
        }
        fs::create_dir(bed.path("vms")).expect("a folder");
        bed
    }

    fn make(&self, arguments: &[&str]) {
        let (code, text) = vouch(arguments);
        assert_eq!(code, Some(0), "vouch {arguments:?}: {text}");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn shown(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn address(&self, index: usize) -> SocketAddr {
        (self.ip, self.ports[index]).into()
    }

    fn manager(&self) -> String {
        let (at, listen, api) = (self.folder.path().display(), self.address(0), self.address(1));
        format!(
            "id = \"m1\"\ndata_dir = \"{at}/data\"\n[listen]\nmanagement = \"{listen}\"\n[api]\nlisten = \"{api}\"\n\
             [tls]\nca_certificate = \"{at}/pki/ca.pem\"\ncertificate = \"{at}/pki/m1.pem\"\nkey = \"{at}/pki/m1.key\"\n\
             [[manager]]\nid = \"m1\"\nmanagement = \"{listen}\"\n"
        )
    }

    fn node(&self) -> String {
        let (at, relay, manager) = (self.folder.path().display(), self.address(2), self.address(0));
        format!(
            "id = \"n1\"\ndata_dir = \"{at}/data\"\nrelay = \"{relay}\"\n\
             [tls]\nca_certificate = \"{at}/pki/ca.pem\"\ncertificate = \"{at}/pki/n1.pem\"\nkey = \"{at}/pki/n1.key\"\n\
             [[manager]]\nid = \"m1\"\nmanagement = \"{manager}\"\n\
             [hypervisor]\ndriver = \"local\"\nvm_dir = \"{at}/vms\"\n"
        )
    }

    /// Starts a daemon with this configuration and asserts that it refuses it: this exit code, one message with all of
    /// these words, no data folder, and every port free that the test does not hold itself.
    #[track_caller]
    fn refuses(&self, daemon: &str, config: &str, code: i32, words: &[&str], held: &[SocketAddr]) {
        let file = self.path("bad.toml");
        fs::write(&file, config).expect("a file");
        let mut command = Command::new(paths::vouch().expect("it is built"));
        command.args([daemon, "--config"]).arg(&file).env_remove("VOUCH_DATA_DIR").env_remove("VOUCH_API_LISTEN");
        let logs = tempfile::tempdir().expect("a folder");
        let mut process = Process::start(daemon, &mut command, logs.path()).expect("it starts");
        let ended = || process.ended().ok().flatten();
        let ended = wait::until(format!("the {daemon} refuses"), REFUSED, ended).map(|(status, _)| status);
        let said = process.log().expect("its log");
        let status = ended.unwrap_or_else(|e| panic!("{e}; it said:\n{said}\nto:\n{config}"));
        assert_eq!(status.code(), Some(code), "the {daemon} said:\n{said}\nto:\n{config}");
        one_message(&said, words);
        assert!(!self.path("data").exists(), "a data folder was made by a {daemon} that said:\n{said}");
        for address in (0..3).map(|i| self.address(i)).filter(|a| !held.contains(a)) {
            TcpListener::bind(address).unwrap_or_else(|e| panic!("{address} is left bound: {e}"));
        }
    }

    /// Writes a good VM file for the driver `local`, changed by `change`.
    fn vm(&self, name: &str, port: u16, change: impl FnOnce(String) -> String) -> String {
        let text =
            format!("id = \"{VM_ID}\"\nname = \"desk-1\"\n[local]\naddress = \"127.0.0.1\"\nrdp_port = {port}\n");
        let file = self.path("vms").join(name);
        fs::write(&file, change(text)).expect("a file");
        file.display().to_string()
    }
}

/// Asserts that a report is one message, told once, with all of these words.
#[track_caller]
fn one_message(said: &str, words: &[&str]) {
    let heads: Vec<&str> = said.lines().filter(|line| !line.starts_with(' ')).collect();
    assert!(heads.len() == 1 && heads[0].starts_with("vouch: "), "not one message but:\n{said}");
    let mut lines: Vec<&str> = said.lines().map(|line| line.trim_start_matches([' ', '|'])).collect();
    lines.retain(|line| !line.is_empty());
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all, "a line is told twice:\n{said}");
    for word in words {
        assert!(said.contains(word), "{word:?} is not in:\n{said}");
    }
}

/// Runs `vouch` to its end; returns its exit code and what it wrote to standard error.
#[track_caller]
fn vouch(arguments: &[&str]) -> (Option<i32>, String) {
    finish(Command::new(paths::vouch().expect("it is built")).args(arguments))
}

#[track_caller]
fn finish(command: &mut Command) -> (Option<i32>, String) {
    for name in ["VOUCH_API", "VOUCH_TOKEN_FILE", "VOUCH_CA"] {
        command.env_remove(name);
    }
    let done = command.stdin(Stdio::null()).output().expect("it starts");
    (done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned())
}

fn set_mode(file: &Path, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("it is there");
}

#[test]
fn malformed_toml_is_refused_with_file_line_and_reason() {
    let bed = Bed::new();
    for (daemon, good, id) in [("manager", bed.manager(), "m1"), ("node", bed.node(), "n1")] {
        let bad = good.replacen(&format!("id = \"{id}\"\n"), &format!("id = \"{id}\n"), 1);
        bed.refuses(daemon, &bad, 78, &[&bed.shown("bad.toml"), "line 1", "invalid basic string"], &[]);
    }
}

#[test]
fn a_configuration_that_is_not_there_is_refused_with_its_path() {
    let bed = Bed::new();
    let missing = bed.shown("none.toml");
    for daemon in ["manager", "node"] {
        let (code, said) = vouch(&[daemon, "--config", &missing]);
        assert_eq!(code, Some(78), "{said}");
        one_message(&said, &[&missing, "cannot be read", "No such file"]);
    }
}

#[test]
fn an_unknown_key_is_refused_with_the_keys_that_are_known() {
    let bed = Bed::new();
    for (daemon, good) in [("manager", bed.manager()), ("node", bed.node())] {
        let words = [&*bed.shown("bad.toml"), "line 1", "unknown field `colour`", "expected one of", "`data_dir`"];
        bed.refuses(daemon, &format!("colour = \"red\"\n{good}"), 78, &words, &[]);
        let deep = good.replace("[tls]\n", "[tls]\ncipher = \"none\"\n");
        bed.refuses(daemon, &deep, 78, &["unknown field `cipher`", "`certificate`"], &[]);
    }
}

#[test]
fn a_wrong_id_is_refused_with_its_value_and_the_rule() {
    let bed = Bed::new();
    let manager = |id: &str| bed.manager().replacen("\"m1\"", id, 1);
    bed.refuses("manager", &manager("\"manager-one\""), 78, &["id = \"manager-one\"", "must be 'm' and a number"], &[]);
    bed.refuses("manager", &manager("\"m7\""), 78, &["id", "m7", "must be one of the members [m1]"], &[]);
    let node = |id: &str| bed.node().replacen("\"n1\"", id, 1);
    bed.refuses("node", &node("\"Node One\""), 78, &["id = \"Node One\"", "must be 1 to 63 of a-z"], &[]);
    let twice = format!("{}[[manager]]\nid = \"m1\"\nmanagement = \"127.0.0.1:9\"\n", bed.manager());
    bed.refuses("manager", &twice, 78, &["manager.id", "m1", "twice"], &[]);
}

#[test]
fn a_certificate_of_another_is_refused_with_both_names() {
    let bed = Bed::new();
    let of_m2 = bed.manager().replace("pki/m1", "pki/m2");
    bed.refuses("manager", &of_m2, 78, &["tls.certificate", "m2.manager.vouch", "m1.manager.vouch"], &[]);
    let n7 = bed.node().replacen("\"n1\"", "\"n7\"", 1);
    bed.refuses("node", &n7, 78, &["tls.certificate", &bed.shown("pki/n1.pem"), "n1.node.vouch", "n7"], &[]);
}

#[test]
fn a_missing_certificate_is_refused_with_its_path() {
    let bed = Bed::new();
    for (daemon, good, id) in [("manager", bed.manager(), "m1"), ("node", bed.node(), "n1")] {
        for name in [&format!("pki/{id}.pem"), &format!("pki/{id}.key"), "pki/ca.pem"] {
            let bad = good.replace(name, "pki/none.pem");
            bed.refuses(daemon, &bad, 78, &[&bed.shown("pki/none.pem"), "No such file"], &[]);
        }
    }
}

#[test]
fn a_key_that_others_may_read_is_refused_with_path_mode_and_rule() {
    let bed = Bed::new();
    for (daemon, good, id) in [("manager", bed.manager(), "m1"), ("node", bed.node(), "n1")] {
        let key = format!("pki/{id}.key");
        set_mode(&bed.path(&key), 0o644);
        bed.refuses(daemon, &good, 78, &[&bed.shown(&key), "mode 0644", "must not be accessible", "chmod 600"], &[]);
    }
}

#[test]
fn a_key_that_is_not_of_the_certificate_is_refused_by_name() {
    let bed = Bed::new();
    for (daemon, good, id) in [("manager", bed.manager(), "m1"), ("node", bed.node(), "n1")] {
        let bad = good.replace(&format!("pki/{id}.key"), "pki/m2.key");
        bed.refuses(daemon, &bad, 78, &[&bed.shown("pki/m2.key")], &[]);
    }
}

#[test]
fn a_token_file_that_is_no_secret_is_refused_before_anything_is_made() {
    let bed = Bed::new();
    let token = bed.path("short.token");
    let config = bed.manager().replace("[api]\n", &format!("[api]\ntoken_file = \"{}\"\n", token.display()));
    fs::write(&token, "guess\n").expect("a file");
    set_mode(&token, 0o600);
    let words = ["api.token_file", &*token.display().to_string(), "5 characters", "at least 32"];
    bed.refuses("manager", &config, 78, &words, &[]);
    set_mode(&token, 0o644);
    bed.refuses("manager", &config, 78, &["api.token_file", "644", "600"], &[]);
}

#[test]
fn a_port_in_use_is_refused_with_key_and_address() {
    let bed = Bed::new();
    for (daemon, config, key, index) in [
        ("manager", bed.manager(), "listen.management", 0),
        ("manager", bed.manager(), "api.listen", 1),
        ("node", bed.node(), "relay", 2),
    ] {
        let address = bed.address(index);
        let _held = TcpListener::bind(address).expect("the port is free");
        // Not 78: the configuration is right, and the same start may succeed a moment later.
        bed.refuses(daemon, &config, 1, &[key, &address.to_string(), "Address already in use"], &[address]);
    }
}

#[test]
fn a_bad_vm_file_is_refused_with_its_path_and_what_is_wrong() {
    let bed = Bed::new();
    bed.vm("a.toml", 39389, |text| text);
    let bad = bed.vm("b.toml", 39390, |text| format!("colour = \"red\"\n{text}"));
    bed.refuses("node", &bed.node(), 78, &[&bad, "line 1", "unknown field `colour`", "`memory_mib`"], &[]);
    bed.vm("b.toml", 39390, |text| text.replace(VM_ID, "desk-one"));
    bed.refuses("node", &bed.node(), 78, &[&bad, "id = \"desk-one\"", "UUID"], &[]);
    bed.vm("b.toml", 39390, |text| text.replace("id = ", "id : "));
    bed.refuses("node", &bed.node(), 78, &[&bad, "line 1"], &[]);
    bed.vm("b.toml", 39390, |text| text.replace("39390", "0"));
    bed.refuses("node", &bed.node(), 78, &[&bad, "local.rdp_port = 0", "must not be 0"], &[]);
}

#[test]
fn two_vm_files_with_one_id_are_refused_with_both_paths() {
    let bed = Bed::new();
    let (first, second) = (bed.vm("a.toml", 39389, |text| text), bed.vm("b.toml", 39390, |text| text));
    bed.refuses("node", &bed.node(), 78, &[&first, &second, VM_ID, "has it already"], &[]);
}

// ---- The command line ----

#[test]
fn a_wrong_command_line_is_usage() {
    for (arguments, word) in [
        (&["frobnicate"][..], "'frobnicate'"),
        (&["vm", "frobnicate"], "'frobnicate'"),
        (&["vm", "ls", "--frobnicate"], "'--frobnicate'"),
        (&["vm", "ls", "-o", "yaml"], "'yaml'"),
        (&["vm", "show"], "required arguments"),
        (&["manager"], "--config <FILE>"),
        (&["node"], "--config <FILE>"),
    ] {
        let (code, said) = vouch(arguments);
        assert_eq!(code, Some(2), "vouch {arguments:?}: {said}");
        assert!(said.contains(word), "{word} is not in: {said}");
        assert_eq!(said.matches("error:").count(), 1, "one message: {said}");
    }
}

#[test]
fn a_wrong_value_of_a_flag_is_usage_too() {
    let bed = Bed::new();
    let token = bed.shown("api.token");
    fs::write(&token, "0".repeat(64)).expect("a file");
    let (code, said) = vouch(&["--api", "ftp://127.0.0.1", "--token-file", &token, "vm", "ls"]);
    assert!(said.contains("--api") && said.contains("ftp://127.0.0.1") && said.contains("http://"), "{said}");
    assert_eq!(code, Some(2), "{said}");
    let (code, said) = vouch(&["pki", "issue", "--role", "manager", "--id", "n1", &bed.shown("pki")]);
    assert!(said.contains("--id") && said.contains("n1") && said.contains("must be 'm' and a number"), "{said}");
    assert_eq!(code, Some(2), "{said}");
}

#[test]
fn an_api_that_nobody_serves_is_unavailable_and_a_missing_token_is_denied() {
    let bed = Bed::new();
    let token = bed.shown("api.token");
    let api = format!("http://{}", bed.address(1));
    let (code, said) = vouch(&["--api", &api, "--token-file", &token, "vm", "ls"]);
    assert_eq!(code, Some(5), "{said}");
    one_message(&said, &[&token, "cannot be read", "No such file"]);
    fs::write(&token, "0".repeat(64)).expect("a file");
    let (code, said) = vouch(&["--api", &api, "--token-file", &token, "vm", "ls"]);
    assert_eq!(code, Some(4), "{said}");
    one_message(&said, &["no manager can be reached", &api, "refused"]);
}
