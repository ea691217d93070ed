//! Native code made ahead of time: loads without the compiler, and only if it was vouched for.

mod common;

use common::{DEADLINE, host, port, server, target};
use vouch_probe_host::{Capabilities, HostLimits, LoadError, Manifest, ProbeHost, compilations, digest_of};

// One test, so that no other compiles in this process while it counts.
#[tokio::test]
async fn native_code_runs_without_the_compiler_and_only_from_the_manifest() {
    let tcp = vouch_probe_bundle::by_name("tcp").unwrap();
    let native = host().precompile(tcp.bytes).unwrap();
    assert_eq!(host().precompile(tcp.bytes).unwrap(), native, "the same component gives the same code");
    let compiled = compilations();
    assert_eq!(compiled, 2);

    // Another host with other limits, as in the watcher's image.
    let small = ProbeHost::new(HostLimits { concurrency: 4, ..HostLimits::default() }).unwrap();
    let manifest = Manifest::from_iter([digest_of(&native)]);
    let probe = small.load_native(&native, &manifest).unwrap();
    let open = server(async |stream| drop(stream)).await;
    let found = probe.run(&target(), &port(open), DEADLINE, &Capabilities::default()).await.unwrap();
    assert_eq!(found.reason, "connected");
    assert_eq!(compilations(), compiled, "the compiler did not run again");

    let refused = small.load_native(&native, &Manifest::default()).err();
    assert!(matches!(refused, Some(LoadError::NotInManifest { .. })), "{refused:?}");
    let mut changed = native.clone();
    *changed.last_mut().unwrap() ^= 1;
    let refused = small.load_native(&changed, &manifest).err();
    assert!(matches!(refused, Some(LoadError::NotInManifest { .. })), "{refused:?}");
    // A component is not native code, even if the manifest lists it.
    let component = Manifest::from_iter([tcp.digest()]);
    let refused = small.load_native(tcp.bytes, &component).err();
    assert!(matches!(refused, Some(LoadError::Incompatible { .. })), "{refused:?}");
    // Nor is native code a component, which anybody may send under its own digest: no word of it is run.
    for refused in [small.compile(&native).err(), small.compile_to_keep(&native).err()] {
        assert!(matches!(refused, Some(LoadError::NotWasm)), "{refused:?}");
    }
    assert_eq!(compilations(), compiled, "the compiler never saw it");
}
