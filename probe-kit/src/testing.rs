//! For the tests of a probe's author: `cargo test` runs the component in the host of the watchers.
//!
//! ```no_run
//! use vouch_probe_kit::testing::Component;
//!
//! let probe = Component::build();
//! probe.fake("tcp:refuse").run().assert_down().assert_reason("closed");
//! probe.settings(r#"{"port": 0}"#).assert_refused("`port` is 0");
//! ```
//!
//! It panics where a test should fail, with what was expected and what the probe said, and nowhere else is it to be
//! used.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::Duration;

use tokio::runtime::Runtime;
use vouch_probe_host::{HostLimits, ProbeHost, RunFault};
use vouch_types::Network;

use crate::{Aim, Fake, Plan, ProbeFile, Ran, Trial, build};

static HOST: LazyLock<ProbeHost> = LazyLock::new(|| ProbeHost::new(HostLimits::default()).expect("this platform runs"));
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("this machine has threads for the tests"));

/// A component that is under test.
#[derive(Clone)]
pub struct Component {
    file: ProbeFile,
}

impl Component {
    /// Builds the project whose tests run, as `vouch probe build` does.
    ///
    /// # Panics
    /// When it does not build, or is not a probe.
    #[track_caller]
    pub fn build() -> Self {
        let folder = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let folder = folder.expect("CARGO_MANIFEST_DIR is set by `cargo test`");
        match build(&folder) {
            Ok(file) => Self::load(file),
            Err(error) => panic!("{}", chain(&error)),
        }
    }

    /// Loads a component that is built.
    ///
    /// # Panics
    /// When it cannot be read, or is not a probe.
    #[track_caller]
    pub fn load(path: impl AsRef<Path>) -> Self {
        match ProbeFile::open(&HOST, path.as_ref()) {
            Ok(file) => Self { file },
            Err(error) => panic!("{}", chain(&error)),
        }
    }

    /// Begins a test at this address; its port is granted, and given to the probe as `port` unless settings name one.
    pub fn target(&self, address: SocketAddr) -> ComponentTest {
        self.test(Aimed::At(address))
    }

    /// Begins a test at a fake, as `rdp:ok`.
    ///
    /// # Panics
    /// When there is no fake of this name.
    #[track_caller]
    pub fn fake(&self, name: &str) -> ComponentTest {
        match name.parse() {
            Ok(fake) => self.test(Aimed::Fake(fake)),
            Err(error) => panic!("{error}"),
        }
    }

    /// Begins a test of settings.
    pub fn settings(&self, json: &str) -> ComponentTest {
        self.test(Aimed::Nowhere).settings(json)
    }

    fn test(&self, aimed: Aimed) -> ComponentTest {
        let plan = Plan::new(Aim::Addresses(Vec::new()));
        ComponentTest { file: self.file.clone(), aimed, plan }
    }
}

#[derive(Clone, Copy)]
enum Aimed {
    Nowhere,
    At(SocketAddr),
    Fake(Fake),
}

/// One test of a component that is being set up.
#[must_use = "nothing is tested before it runs"]
pub struct ComponentTest {
    file: ProbeFile,
    aimed: Aimed,
    plan: Plan,
}

impl ComponentTest {
    /// Gives the probe these settings, a JSON object.
    pub fn settings(mut self, json: &str) -> Self {
        json.clone_into(&mut self.plan.settings);
        self
    }

    /// Aims at this address; its port is granted, and given to the probe as `port` unless settings name one.
    pub fn target(mut self, address: SocketAddr) -> Self {
        self.aimed = Aimed::At(address);
        self
    }

    /// Gives each run this deadline; two seconds without.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.plan.timeout = timeout;
        self
    }

    /// Tells the probe that its target is on this network; the service network without.
    pub fn network(mut self, network: Network) -> Self {
        self.plan.network = network;
        self
    }

    /// Runs the probe once.
    ///
    /// # Panics
    /// When it is aimed at nothing, or the fake does not start.
    #[track_caller]
    pub fn run(self) -> Tested {
        let Self { file, aimed, mut plan } = self;
        match aimed {
            Aimed::Nowhere => panic!("aimed at nothing: say .target(address) before .run()"),
            Aimed::Fake(fake) => plan.aim = Aim::Fake(fake),
            Aimed::At(address) => aim_at(&mut plan, address.ip(), address.port()),
        }
        let ran = RUNTIME.block_on(async { Ok::<_, crate::TrialError>(Trial::start(&file, &plan).await?.run().await) });
        match ran {
            Ok(ran) => Tested { ran },
            Err(error) => panic!("{}", chain(&error)),
        }
    }

    /// Asserts that the probe takes the settings.
    ///
    /// # Panics
    /// When it refuses them, or does not answer.
    #[track_caller]
    pub fn assert_taken(self) {
        if let Err(said) = RUNTIME.block_on(self.file.probe.validate(&self.plan.settings)) {
            panic!("settings {} must be taken: {said}", self.plan.settings);
        }
    }

    /// Asserts that the probe refuses the settings, with these words in what it says.
    ///
    /// # Panics
    /// When it takes them, says something else, or does not answer.
    #[track_caller]
    pub fn assert_refused(self, words: &str) {
        let settings = &self.plan.settings;
        match RUNTIME.block_on(self.file.probe.validate(settings)) {
            Err(RunFault::BadSettings(said)) if said.contains(words) => {}
            Err(said) => panic!("settings {settings} must be refused with {words:?}: {said}"),
            Ok(()) => panic!("settings {settings} must be refused with {words:?}, and are taken"),
        }
    }
}

fn aim_at(plan: &mut Plan, address: IpAddr, port: u16) {
    plan.aim = Aim::Addresses(vec![address]);
    plan.ports = BTreeSet::from([port]);
    if let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_str(&plan.settings) {
        fields.entry("port").or_insert_with(|| port.into());
        plan.settings = serde_json::Value::Object(fields).to_string();
    }
}

/// What came of a test's run, to be asserted on.
#[derive(Clone, Debug)]
pub struct Tested {
    /// The run.
    pub ran: Ran,
}

impl Tested {
    /// Asserts the state.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn assert_up(&self) -> &Self {
        self.assert_state("up")
    }

    /// Asserts the state.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn assert_degraded(&self) -> &Self {
        self.assert_state("degraded")
    }

    /// Asserts the state.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn assert_down(&self) -> &Self {
        self.assert_state("down")
    }

    /// Asserts the state.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn assert_unknown(&self) -> &Self {
        self.assert_state("unknown")
    }

    /// Asserts that the run came to no answer.
    ///
    /// # Panics
    /// When it did.
    #[track_caller]
    pub fn assert_fault(&self) -> &Self {
        self.assert_state("fault")
    }

    /// Asserts the reason.
    ///
    /// # Panics
    /// When it is another.
    #[track_caller]
    pub fn assert_reason(&self, reason: &str) -> &Self {
        assert!(self.ran.reason() == reason, "reason must be {reason}: {self}");
        self
    }

    /// Asserts that the message holds these words.
    ///
    /// # Panics
    /// When it does not.
    #[track_caller]
    pub fn assert_message(&self, words: &str) -> &Self {
        assert!(self.ran.message().contains(words), "message must hold {words:?}: {self}");
        self
    }

    /// Asserts that this was learnt about the target.
    ///
    /// # Panics
    /// When it was not.
    #[track_caller]
    pub fn assert_fact(&self, name: &str, value: &str) -> &Self {
        let facts = self.ran.result.as_ref().map(|found| found.facts.as_slice()).unwrap_or_default();
        assert!(facts.iter().any(|(n, v)| n == name && v == value), "fact {name} must be {value:?}: {self}; {facts:?}");
        self
    }

    #[track_caller]
    fn assert_state(&self, state: &str) -> &Self {
        assert!(self.ran.state() == state, "state must be {state}: {self}");
        self
    }
}

impl std::fmt::Display for Tested {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the probe found {} ({}): {}", self.ran.state(), self.ran.reason(), self.ran.message())
    }
}

/// Returns an error with all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
