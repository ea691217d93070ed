//! Custom probes: fetched, compiled and kept.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

#[tokio::test]
async fn bytes_that_are_not_the_probe_are_refused_and_the_vm_is_not_called_down() {
    let (_service, port) = service().await;
    let other = vouch_probe_bundle::by_name("ping").unwrap().bytes.to_vec();
    let mut bench = Bench::start(vec![other, tcp_component()]).await;
    bench.tell(Heard::Assignment(tcp_assignment(1, port))).await;
    let wrong = |message: &str| message.contains("sent other bytes");
    bench
        .hear("refusal", move |said| match said {
            Said::Report(report) => report.observations.into_iter().find(|o| wrong(&o.message)).map(|o| {
                assert_eq!(o.outcome, i32::from(proto::Outcome::Unknown));
            }),
            Said::Answer(_) | Said::Durations(_) | Said::Hello(_) => None,
        })
        .await;
    // It is tried again, and the right bytes are taken.
    bench.outcome(proto::Outcome::Up).await;
}

#[tokio::test]
async fn a_component_that_there_is_no_memory_to_compile_for_is_unknown_until_there_is_some() {
    static LEFT: AtomicU64 = AtomicU64::new(10 << 20);
    let (_service, port) = service().await;
    let mut bench = Bench::start_with(vec![tcp_component()], RunLimit::LEAST, |runner| {
        Arc::new(runner.with_available(|| Some(LEFT.load(Ordering::Relaxed))))
    })
    .await;
    bench.tell(Heard::Assignment(tcp_assignment(1, port))).await;
    let refused = bench.outcome(proto::Outcome::Unknown).await;
    assert_eq!(refused.reason, "probe_unavailable");
    assert!(refused.message.contains("this watcher has 2 MiB left"), "{}", refused.message);
    LEFT.store(1 << 30, Ordering::Relaxed);
    bench.outcome(proto::Outcome::Up).await;
}

#[tokio::test]
async fn what_one_watcher_compiled_the_next_one_neither_fetches_nor_compiles() {
    let dir = tempfile::tempdir().unwrap();
    let (_service, port) = service().await;
    let start = async |components| {
        let kept_in = |runner: HostRunner| Arc::new(runner.with_compiled(dir.path())) as Arc<_>;
        let bench = Bench::start_with(components, RunLimit::LEAST, kept_in).await;
        bench.tell(Heard::Assignment(tcp_assignment(1, port))).await;
        bench
    };
    start(vec![tcp_component()]).await.outcome(proto::Outcome::Up).await;
    // No manager has it.
    start(Vec::new()).await.outcome(proto::Outcome::Up).await;
    // What somebody else put there is not run: this one has to fetch it, and cannot.
    let kept = std::fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::write(&kept, b"native code of somebody else, which is longer than a head").unwrap();
    let refused = start(Vec::new()).await.outcome(proto::Outcome::Unknown).await;
    assert!(refused.message.contains("no such component"), "{}", refused.message);
    assert!(!kept.exists());
}
