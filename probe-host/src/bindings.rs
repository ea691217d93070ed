//! The contract as Rust: generated from `wit/`, and the only place that is.

wasmtime::component::bindgen!({
    path: "../wit/vouch-probe-0.1.0",
    world: "probe",
    imports: {
        "vouch:probe/icmp.echo": async,
        "vouch:probe/guest-agent.ping": async,
    },
    exports: { default: async },
});
