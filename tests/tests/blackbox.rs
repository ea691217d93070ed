//! The managers' `/probe` beside the real blackbox_exporter from Debian: both look at the same nginx, dnsmasq and address, and
//! whatever series the exporter has, vouch has, with the same values where these are not times.

#![expect(clippy::print_stdout, reason = "what is compared is what this test is also run for")]

use std::collections::BTreeMap;
use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use vouch_tests::api::Client;
use vouch_tests::process::Process;
use vouch_tests::story::{LocalStage, VM_ONE};
use vouch_tests::{paths, wait};

const LIMIT: Duration = Duration::from_secs(60);
/// Where desk-1 of the loopback cluster is.
const DESK: &str = "127.0.11.1";

/// What vouch does not tell: it does not see the hop limit of a reply, verifies no chain of certificates (the exporter,
/// where it does not verify either, tells a date before our era), and does not read when a page was changed.
const NOT_TOLD: [&str; 3] = [
    "probe_icmp_reply_hop_limit",
    "probe_ssl_last_chain_expiry_timestamp_seconds",
    "probe_http_last_modified_timestamp_seconds",
];

/// Series whose values depend on who looked and when: both have to be above 0 or both 0, but for steps that vouch has no need of.
const TIMES: [&str; 5] = [
    "probe_duration_seconds",
    "probe_dns_lookup_time_seconds",
    "probe_http_duration_seconds",
    "probe_icmp_duration_seconds",
    "probe_dns_duration_seconds",
];

struct Programs {
    exporter: PathBuf,
    nginx: PathBuf,
    dnsmasq: PathBuf,
}

/// The series of one scrape: labels sorted, as text, and values.
type Series = BTreeMap<String, f64>;

fn series(text: &str) -> Result<Series> {
    let lines = text.lines().filter(|line| line.starts_with("probe_"));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').with_context(|| format!("no value: {line}"))?;
            let series = match series.split_once('{') {
                Some((name, labels)) => {
                    // No value of these has a comma and a quote in a row.
                    let mut labels: Vec<&str> = labels.trim_end_matches('}').split("\",").collect();
                    labels.iter_mut().for_each(|label| *label = label.trim_end_matches('"'));
                    labels.sort_unstable();
                    format!("{name}{labels:?}")
                }
                None => series.to_owned(),
            };
            Ok((series, value.parse()?))
        })
        .collect()
}

fn name(series: &str) -> &str {
    series.split('[').next().unwrap_or(series)
}

fn free_port() -> Result<u16> {
    let tcp = TcpListener::bind((DESK, 0))?;
    let port = tcp.local_addr()?.port();
    UdpSocket::bind((DESK, port)).with_context(|| format!("port {port} over UDP"))?;
    Ok(port)
}

fn certify(folder: &Path) -> Result<()> {
    let mut params = rcgen::CertificateParams::new(["desk.test".to_owned(), "desk".to_owned()])?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    for (kind, value) in [
        (rcgen::DnType::CountryName, "DE"),
        (rcgen::DnType::OrganizationName, "Farm"),
        (rcgen::DnType::CommonName, "desk"),
    ] {
        params.distinguished_name.push(kind, value);
    }
    params.subject_alt_names.push(rcgen::SanType::IpAddress(DESK.parse()?));
    params.not_after = rcgen::date_time_ymd(2040, 2, 29);
    let key = rcgen::KeyPair::generate()?;
    fs::write(folder.join("desk.pem"), params.self_signed(&key)?.pem())?;
    Ok(fs::write(folder.join("desk.key"), key.serialize_pem())?)
}

/// Services at the address of desk-1, and an exporter.
struct Servers {
    exporter: Process,
    nginx: Process,
    _dnsmasq: Process,
    ask: Client,
    https: u16,
    dns: u16,
    _folder: tempfile::TempDir,
}

impl Servers {
    fn start(programs: &Programs) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("vb").tempdir()?;
        let logs = paths::logs("blackbox-servers")?;
        let (root, https, dns) = (folder.path(), free_port()?, free_port()?);
        certify(root)?;
        let path = root.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {path}/{kind}; "))
            .concat();
        let site = format!(
            "daemon off; master_process off; pid {path}/pid; error_log stderr; events {{}}\n\
             http {{ access_log {path}/access; {temporary} server {{ listen {DESK}:{https} ssl; \
             ssl_protocols TLSv1.3; ssl_certificate {path}/desk.pem; ssl_certificate_key {path}/desk.key; \
             root {path}; location = / {{ return 200 'hello'; }} location = /ssi.html {{ ssi on; }} }} }}\n"
        );
        fs::write(root.join("page.html"), "<p>a page with a date and a length</p>")?;
        fs::write(root.join("ssi.html"), "<p>a page that comes in chunks</p>")?;
        fs::write(root.join("nginx.conf"), site)?;
        let nginx = Process::start(
            "nginx",
            Command::new(&programs.nginx).arg("-c").arg(root.join("nginx.conf")).args(["-p", &path.to_string()]),
            &logs,
        )?;
        let dnsmasq = Process::start(
            "dnsmasq",
            Command::new(&programs.dnsmasq)
                .args([
                    "--keep-in-foreground",
                    "--conf-file=/dev/null",
                    "--no-resolv",
                    "--no-hosts",
                    "--bind-interfaces",
                ])
                .args([format!("--listen-address={DESK}"), format!("--port={dns}")])
                .args(["--host-record=desk.test,192.0.2.1", "--cname=alias.test,desk.test"])
                .args(["--log-facility=-", "--user=", "--pid-file="]),
            &logs,
        )?;
        let modules = "modules:\n  \
            http: { prober: http, http: { preferred_ip_protocol: ip4, tls_config: { insecure_skip_verify: true } } }\n  \
            tcp: { prober: tcp }\n  \
            ping: { prober: icmp, icmp: { preferred_ip_protocol: ip4 } }\n  \
            dns: { prober: dns, dns: { query_name: alias.test, query_type: A, preferred_ip_protocol: ip4 } }\n";
        fs::write(root.join("exporter.yml"), modules)?;
        let port = free_port()?;
        let exporter = Process::start(
            "blackbox_exporter",
            Command::new(&programs.exporter)
                .arg(format!("--config.file={}", root.join("exporter.yml").display()))
                .arg(format!("--web.listen-address={DESK}:{port}")),
            &logs,
        )?;
        let ask = Client::new(format!("http://{DESK}:{port}"), "");
        Ok(Self { exporter, nginx, _dnsmasq: dnsmasq, ask, https, dns, _folder: folder })
    }

    /// Returns what the exporter's module is told to look at.
    fn target(&self, module: &str, page: &str) -> String {
        match module {
            "http" => format!("https://{DESK}:{}{page}", self.https),
            "tcp" => format!("{DESK}:{}", self.https),
            "dns" => format!("{DESK}:{}", self.dns),
            _ => DESK.to_owned(),
        }
    }

    /// Waits until both say of a module that it succeeded, or failed, and the same of all else; a page is one of `http`.
    fn compare(&mut self, stage: &LocalStage, module: &str, page: &str, success: f64) -> Result<()> {
        let vouch = stage.client_of("m1")?;
        let (own, other) = (format!("target={VM_ONE}"), format!("target={}", self.target(module, page)));
        let what = format!("{module}{page}");
        let (same, took) = wait::until_ok(&what, LIMIT, || {
            self.exporter.must_run()?;
            let exporter = told(&self.ask, &format!("/probe?module={module}&{other}"))?;
            let vouch = told(&vouch, &format!("/probe?module={module}&{own}"))?;
            ensure!(exporter["probe_success"] == success, "exporter: {exporter:?}");
            compare(&exporter, &vouch)
        })?;
        println!("{:>8.2} s  {what}: {same}", took.as_secs_f64());
        Ok(())
    }
}

fn told(ask: &Client, path: &str) -> Result<Series> {
    let body = ask.read(path)?;
    let told = series(body.as_str().context("a text")?)?;
    ensure!(told.contains_key("probe_success"), "{body}");
    Ok(told)
}

/// Compares what the exporter says with what vouch does, and says how.
fn compare(exporter: &Series, vouch: &Series) -> Result<String> {
    let unknown = |series: &&String| !vouch.contains_key(*series);
    let (left_out, missing): (Vec<&String>, Vec<&String>) =
        exporter.keys().filter(unknown).partition(|series| NOT_TOLD.contains(&name(series)));
    ensure!(missing.is_empty(), "vouch does not tell {missing:?}\nexporter: {exporter:?}\nvouch: {vouch:?}");
    let own: Vec<&String> = vouch.keys().filter(|series| NOT_TOLD.contains(&name(series))).collect();
    ensure!(own.is_empty(), "it is told by now, and its exception has to go: {own:?}");
    let (mut same, mut times) = (0, 0);
    for (series, value) in exporter.iter().filter(|(series, _)| !left_out.contains(series)) {
        let own = vouch[series];
        let nothing_to_do = ["resolve", "setup", "probe_dns_lookup"].iter().any(|word| series.contains(word));
        match TIMES.contains(&name(series)) {
            // vouch has nothing to look up and opens no socket for each request; DNS has nothing to connect.
            true if nothing_to_do || series.contains("probe_dns_duration_seconds[\"phase=\\\"connect") => {}
            true => {
                ensure!((own > 0.0) == (*value > 0.0), "{series}: exporter {value}, vouch {own}");
                times += 1;
            }
            false => {
                ensure!(own == *value, "{series}: exporter {value}, vouch {own}");
                same += 1;
            }
        }
    }
    Ok(format!("{} series, {same} have the same value, {times} are times; not told: {left_out:?}", exporter.len()))
}

#[test]
fn the_series_are_those_of_the_real_blackbox_exporter() {
    let find = |program: &str| paths::program(program);
    let (Some(exporter), Some(nginx), Some(dnsmasq)) =
        (find("prometheus-blackbox-exporter"), find("nginx"), find("dnsmasq"))
    else {
        let why = "it takes prometheus-blackbox-exporter, nginx-light and dnsmasq-base, which Debian has as packages";
        return paths::leave_out("blackbox", why);
    };
    let programs = Programs { exporter, nginx, dnsmasq };
    LocalStage::play(
        "blackbox",
        |text| println!("{text}"),
        |stage| {
            let mut servers = Servers::start(&programs)?;
            let client = stage.client_of("m1")?;
            let desk = client.read(&format!("/v1/vms/{VM_ONE}"))?;
            let desk = desk.get("id").and_then(Value::as_str).context("the id of desk-1")?;
            for (probe, settings) in [
                ("tcp", json!({ "port": servers.https })),
                ("ping", json!({})),
                ("dns", json!({ "name": "alias.test", "port": servers.dns })),
            ] {
                let path = format!("/v1/probes/{probe}/assignments/service/vm:{desk}");
                client.put(&path, &json!({ "settings": settings }))?.ok()?;
            }
            for module in ["tcp", "ping", "dns"] {
                servers.compare(stage, module, "", 1.0)?;
            }
            for page in ["/", "/page.html", "/ssi.html"] {
                let settings = json!({ "port": servers.https, "tls": true, "path": page });
                let path = format!("/v1/probes/http/assignments/service/vm:{desk}");
                client.put(&path, &json!({ "settings": settings }))?.ok()?;
                servers.compare(stage, "http", page, 1.0)?;
            }
            println!("the service on desk-1 ends");
            servers.nginx.kill()?;
            for module in ["http", "tcp"] {
                servers.compare(stage, module, "/", 0.0)?;
            }
            let debug = client.read(&format!("/probe?module=ping&target={VM_ONE}&debug=true"))?;
            let debug = debug.as_str().context("a text")?;
            ensure!(debug.contains("sample round_trip_mean: ") && debug.contains("Metrics that would"), "{debug}");
            Ok(())
        },
    );
}
