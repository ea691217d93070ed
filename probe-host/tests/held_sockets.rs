//! Guests that hold all the sockets that they can get.

#![expect(clippy::unwrap_used, reason = "a test that can't be set up has failed")]

mod common;

use std::time::Duration;

use common::{DEADLINE, port, server, target};
use tokio::io::AsyncWriteExt;
use vouch_probe_host::{Capabilities, HostLimits, Probe, ProbeHost};

/// Sockets of all runs beyond one for each.
const OF_ALL: usize = 16;
const RUNS: usize = 12;

fn compiled(host: &ProbeHost, name: &str) -> Probe {
    let bytes = match name {
        "hostile" => vouch_probe_bundle::hostile().bytes,
        name => vouch_probe_bundle::by_name(name).unwrap().bytes,
    };
    host.compile(bytes).unwrap()
}

#[tokio::test]
async fn one_component_gets_half_of_the_sockets_and_each_run_of_another_still_has_its_own() {
    let host = ProbeHost::new(HostLimits { sockets_of_all: OF_ALL, ..HostLimits::default() }).unwrap();
    let (hostile, ssh, http) = (compiled(&host, "hostile"), compiled(&host, "ssh"), compiled(&host, "http"));
    for probe in [&hostile, &ssh, &http] {
        probe.describe().await.unwrap();
    }
    let greeter = server(async |mut stream| {
        // The probe may have gone.
        let _ = stream.write_all(b"SSH-2.0-Example\r\n").await;
    })
    .await;
    for _ in 0..2 {
        let hold = || {
            let hostile = hostile.clone();
            let order = "\"hold-sockets 3000\"";
            tokio::spawn(async move { hostile.run(&target(), order, DEADLINE, &Capabilities::default()).await })
        };
        let held: Vec<_> = (0..RUNS).map(|_| hold()).collect();
        tokio::time::sleep(Duration::from_millis(200)).await;
        let found = ssh.run(&target(), &port(greeter), DEADLINE, &Capabilities::default()).await.unwrap();
        assert_eq!(found.reason, "greeted");
        let secure = format!(r#"{{"port": {greeter}, "tls": true}}"#);
        let found = http.run(&target(), &secure, DEADLINE, &Capabilities::default()).await.unwrap();
        assert_eq!(found.reason, "tls_failed", "it had a connection");
        assert!(held.iter().all(|run| !run.is_finished()), "they were held meanwhile");
        let mut all = 0;
        for run in held {
            let found = run.await.unwrap().unwrap();
            all += found.message.parse::<usize>().unwrap();
        }
        assert_eq!(all, RUNS + OF_ALL / 2, "and all were given back before the next round");
    }
}
