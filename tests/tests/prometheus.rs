//! A real Prometheus from Debian: it finds the VMs by itself, has them checked as it would by `blackbox_exporter`, and reads
//! the managers' counts and histograms.

#![expect(clippy::print_stdout, reason = "the times are what this test is also run for")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use vouch_tests::api::Client;
use vouch_tests::process::Process;
use vouch_tests::story::{LocalStage, VM_ONE, VM_TWO};
use vouch_tests::{paths, wait};

/// Watchers tell their histograms every 10 s, and a rate needs two of them.
const LIMIT: Duration = Duration::from_secs(90);

/// A Prometheus that scrapes one cluster.
struct Prometheus {
    process: Process,
    client: Client,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(program: &Path, stage: &LocalStage) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("vp").tempdir()?;
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, configuration(stage)?)?;
        let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr())?.port();
        let mut command = Command::new(program);
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::start("prometheus", &mut command, &paths::logs("prometheus-scraper")?)?;
        let client = Client::new(format!("http://127.0.0.1:{port}"), "");
        Ok(Self { process, client, _folder: folder })
    }

    /// Returns the values of a query that gives a vector.
    fn values(&self, query: &str) -> Result<Vec<f64>> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let answer = self.client.read(&format!("/api/v1/query?query={encoded}"))?;
        let results = answer.pointer("/data/result").and_then(Value::as_array).context("a vector")?;
        let value = |result: &Value| result.pointer("/value/1").and_then(Value::as_str).and_then(|v| v.parse().ok());
        results.iter().map(|result| value(result).with_context(|| format!("no number: {result}"))).collect()
    }

    /// Returns what it scrapes, and what is wrong with that.
    fn targets(&self) -> String {
        let told = self.client.read("/api/v1/targets").unwrap_or_default();
        let active = told.pointer("/data/activeTargets").and_then(Value::as_array);
        let lines =
            active.into_iter().flatten().map(|t| format!("{} {} {}", t["scrapeUrl"], t["health"], t["lastError"]));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until a query gives these and nothing else.
    fn expect(&mut self, query: &str, what: impl Fn(&[f64]) -> bool) -> Result<()> {
        let looked = wait::until_ok(query, LIMIT, || {
            self.process.must_run()?;
            let values = self.values(query)?;
            ensure!(what(&values), "{values:?}");
            Ok::<_, anyhow::Error>(())
        });
        let (_, took) = looked.with_context(|| self.targets())?;
        println!("{:>8.2} s  {query}", took.as_secs_f64());
        Ok(())
    }
}

/// The configuration of `docs/operating.md`, but for TLS, which an API on loopback has none of; with the time that a silent
/// VM's probe takes in the timing of the tests.
fn configuration(stage: &LocalStage) -> Result<String> {
    let api = |id| -> Result<String> { Ok(stage.client_of(id)?.url("").trim_start_matches("http://").to_owned()) };
    let (first, second, third) = (api("m1")?, api("m2")?, api("m3")?);
    let token = stage.token_file();
    let authorization = format!("authorization: {{ type: Bearer, credentials_file: {} }}", token.display());
    Ok(format!(
        "global: {{ scrape_interval: 2s }}\n\
         scrape_configs:\n\
         - job_name: managers\n  \
           {authorization}\n  \
           static_configs: [{{ targets: [\"{first}\", \"{second}\", \"{third}\"] }}]\n\
         - job_name: vouch-rdp\n  \
           scrape_interval: 8s\n  \
           scrape_timeout: 8s\n  \
           metrics_path: /probe\n  \
           params: {{ module: [rdp] }}\n  \
           {authorization}\n  \
           http_sd_configs:\n  \
           - url: http://{first}/v1/discovery/prometheus\n    \
             refresh_interval: 2s\n    \
             {authorization}\n  \
           relabel_configs:\n  \
           - {{ source_labels: [__meta_vouch_probes], regex: \".*,rdp,.*\", action: keep }}\n  \
           - {{ source_labels: [__address__], target_label: __param_target }}\n  \
           - {{ source_labels: [__param_target], target_label: instance }}\n  \
           - {{ source_labels: [__meta_vouch_name], target_label: vm }}\n  \
           - {{ source_labels: [__meta_vouch_node], target_label: node }}\n  \
           - {{ target_label: __address__, replacement: \"{first}\" }}\n"
    ))
}

#[test]
fn a_real_prometheus_finds_the_vms_has_them_checked_and_reads_histograms() {
    let Some(program) = paths::program("prometheus") else {
        return paths::leave_out("prometheus", "there is no prometheus, which the Debian package of that name brings");
    };
    LocalStage::play(
        "prometheus",
        |text| println!("{text}"),
        |stage| {
            let mut prometheus = Prometheus::start(&program, stage)?;
            let success = |vm: &str| format!("probe_success{{job=\"vouch-rdp\",vm=\"{vm}\"}}");
            prometheus.expect("up{job=\"managers\"}", |up| up == [1.0; 3])?;
            for vm in [VM_ONE, VM_TWO] {
                prometheus.expect(&success(vm), |told| told == [1.0])?;
            }
            prometheus
                .expect("probe_duration_seconds{vm=\"desk-1\"}", |told| matches!(told, [s] if *s > 0.0 && *s < 10.0))?;
            // Every manager is told by every watcher.
            let counted = "vouch_probe_duration_seconds_count{probe=\"rdp\",network=\"service\",node_id=\"n1\"} > 0";
            prometheus.expect(counted, |told| told.len() == 3)?;
            let quantile = "histogram_quantile(0.9, sum by (le) (rate(vouch_probe_duration_seconds_bucket[1m])))";
            prometheus.expect(quantile, |told| matches!(told, [seconds] if *seconds > 0.0 && *seconds <= 5.0))?;

            stage.control(VM_ONE, "hang")?;
            prometheus.expect(&success(VM_ONE), |told| told == [0.0])?;
            prometheus.expect(&success(VM_TWO), |told| told == [1.0])?;
            stage.control(VM_ONE, "resume")?;
            prometheus.expect(&success(VM_ONE), |told| told == [1.0])
        },
    );
}
