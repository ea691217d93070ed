//! The files of the stage of real machines: certificates, and the configuration of managers, nodes and guests.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use vouch_types::Network;

use super::{API, Guest, MANAGERS, PORT, QemuStage, RELAY_PORT, ca, manager_addresses, node_addresses, vm_id};
use crate::paths;
use crate::story::stage::Profile;

impl QemuStage {
    fn run(&self, arguments: &[&str]) -> Result<()> {
        let done = Command::new(&self.vouch).args(arguments).output().context("vouch can't be started")?;
        ensure!(done.status.success(), "vouch {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        Ok(())
    }

    pub(super) fn write_files(&self, profile: Profile) -> Result<()> {
        let at = self.folder.path();
        let pki = ca(at);
        let pki_text = pki.to_str().context("the folder's name is UTF-8")?;
        self.run(&["pki", "init", pki_text])?;
        let token = self.token_file();
        fs::write(&token, &self.token)?;
        fs::set_permissions(&token, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        for (i, machine) in self.managers.iter().enumerate() {
            let id = format!("m{}", i + 1);
            self.run(&["pki", "issue", pki_text, "--role", "manager", "--id", &id])?;
            fs::write(&machine.config, self.manager_config(&id, i, profile))?;
        }
        for (i, machine) in self.nodes.iter().enumerate() {
            let id = format!("n{}", i + 1);
            self.run(&["pki", "issue", pki_text, "--role", "node", "--id", &id])?;
            let vms = at.join(format!("vms-{id}"));
            fs::create_dir(&vms)?;
            fs::write(&machine.config, self.node_config(&id, i)?)?;
        }
        for &Guest { number, node } in self.scene.guests() {
            let file = at.join(format!("vms-n{}/desk-{number}.toml", node + 1));
            fs::write(file, self.vm_file(number)?)?;
        }
        Ok(())
    }

    fn tls(&self, id: &str) -> String {
        let pki = ca(self.folder.path());
        let pki = pki.display();
        format!(
            "[tls]\nca_certificate = \"{pki}/ca.pem\"\ncertificate = \"{pki}/{id}.pem\"\nkey = \"{pki}/{id}.key\"\n"
        )
    }

    fn manager_config(&self, id: &str, i: usize, profile: Profile) -> String {
        let (at, own) = (self.folder.path().display(), manager_addresses(i));
        let mut members = String::new();
        for m in 0..MANAGERS {
            let a = manager_addresses(m);
            members.push_str(&format!(
                "[[manager]]\nid = \"m{}\"\nmanagement = \"{}:{PORT}\"\nservice = \"{}:{PORT}\"\n",
                m + 1,
                a.management,
                a.service
            ));
        }
        format!(
            "id = \"{id}\"\ndata_dir = \"{at}/{id}\"\n[listen]\nmanagement = \"{}:{PORT}\"\nservice = \"{}:{PORT}\"\n\
             [api]\nlisten = \"{API}\"\ntoken_file = \"{at}/api.token\"\n{}ca_key = \"{at}/pki/ca.key\"\n\
             {members}[timing]\nprofile = \"{}\"\n",
            own.management,
            own.service,
            self.tls(id),
            profile.name()
        )
    }

    fn node_config(&self, id: &str, i: usize) -> Result<String> {
        let (at, own) = (self.folder.path().display(), node_addresses(i));
        let image = paths::image("watcher")?;
        let image = image.canonicalize()?;
        let mut managers = String::new();
        let mut dial = String::new();
        for m in 0..MANAGERS {
            let (a, number) = (manager_addresses(m), m + 1);
            managers.push_str(&format!("[[manager]]\nid = \"m{number}\"\nmanagement = \"{}:{PORT}\"\n", a.management));
            dial.push_str(&format!(
                "[watchers.dial.m{number}]\nmanagement = \"{}:{PORT}\"\nservice = \"{}:{PORT}\"\n",
                a.management, a.service
            ));
        }
        // Two addresses more than one watcher needs: a lost one keeps its own until its node has destroyed it.
        let pool = |third: u8| {
            let first = 200 + 10 * i;
            (first..first + 4).map(|n| format!("\"10.{third}.0.{n}\"")).collect::<Vec<_>>().join(", ")
        };
        Ok(format!(
            "id = \"{id}\"\nrack = \"{}\"\ndata_dir = \"{at}/{id}\"\nrelay = \"{}:{RELAY_PORT}\"\n{}{managers}\
             [hypervisor]\ndriver = \"qemu\"\nvm_dir = \"{at}/vms-{id}\"\nrun_dir = \"{at}/run-{id}\"\n\
             [watchers]\nenabled = true\nimage_dir = \"{}\"\n\
             [watchers.management]\nbridge = \"brmgmt\"\naddresses = [{}]\nprefix_len = 24\n\
             [watchers.service]\nbridge = \"brsvc\"\naddresses = [{}]\nprefix_len = 24\n{dial}",
            self.scene.racks()[i],
            own.management,
            self.tls(id),
            image.display(),
            pool(1),
            pool(2),
        ))
    }

    fn vm_file(&self, number: usize) -> Result<String> {
        let image = paths::image("guest")?.canonicalize()?;
        let (image, socket) = (image.display(), self.guest_socket(number));
        let (management, service) = (format!("10.1.0.{}", 100 + number), format!("10.2.0.{}", 100 + number));
        let probe = |probe: &str, network: Network, settings: &str| {
            format!(
                "[[probe]]
probe = \"{probe}\"
network = \"{network}\"
{settings}"
            )
        };
        Ok(format!(
            "id = \"{}\"\nname = \"desk-{number}\"\nmemory_mib = 128\n\
             kernel = \"{image}/vmlinux\"\ninitrd = \"{image}/initramfs.cpio\"\n\
             append = \"vouch.eth0={management}/24 vouch.eth1={service}/24\"\n\
             extra_args = [\"-chardev\", \"socket,id=tc,path={},server=on,wait=off\", \
             \"-device\", \"virtserialport,chardev=tc,name=vouch.test.0\"]\n\
             [[nic]]\nnetwork = \"management\"\nbridge = \"brmgmt\"\nmac = \"52:54:00:01:00:{number:02}\"\n\
             addresses = [\"{management}\"]\n\
             [[nic]]\nnetwork = \"service\"\nbridge = \"brsvc\"\nmac = \"52:54:00:02:00:{number:02}\"\n\
             addresses = [\"{service}\"]\n{}{}{}",
            vm_id(number),
            socket.display(),
            probe("rdp", Network::Service, "settings = { port = 3389 }\n"),
            probe("ping", Network::Service, ""),
            probe("guest-agent", Network::Management, ""),
        ))
    }
}
