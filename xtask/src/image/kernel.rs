//! Debian's kernel for clouds: taken from its package, unpacked, with the modules that a guest needs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use super::{
    cpio::Archive,
    debian, lz4,
    stamp::{self, Stamp},
};

const METAPACKAGE: &str = "linux-image-cloud-amd64";

/// What a guest on `-M microvm` or `-M q35` needs, in the order of loading: `virtio_ring` goes before `virtio`.
pub(crate) const MODULES: &[&str] = &[
    "drivers/virtio/virtio_ring",
    "drivers/virtio/virtio",
    "drivers/virtio/virtio_pci_modern_dev",
    "drivers/virtio/virtio_pci_legacy_dev",
    "drivers/virtio/virtio_pci",
    "drivers/virtio/virtio_mmio",
    "drivers/char/hw_random/virtio-rng",
    "net/core/failover",
    "drivers/net/net_failover",
    "drivers/net/virtio_net",
    "drivers/char/virtio_console",
    "drivers/firmware/qemu_fw_cfg",
];

/// What a guest needs besides, so that its panics are noticed and its power button works.
pub(crate) const PANIC_MODULES: &[&str] = &[
    "drivers/misc/pvpanic/pvpanic",
    "drivers/misc/pvpanic/pvpanic-mmio",
    "drivers/misc/pvpanic/pvpanic-pci",
    "drivers/acpi/button",
];

/// A kernel that was taken out of its package.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The kernel as QEMU can start it without unpacking it in the guest.
    pub(crate) vmlinux: PathBuf,
    /// Release, as `uname -r` says it.
    pub(crate) release: String,
    modules: PathBuf,
}

impl Kernel {
    /// Returns the kernel, fetching and unpacking it the first time.
    pub(crate) fn fetch() -> Result<Self> {
        let folder = super::folder().join("kernel");
        let stamp = Stamp::of(folder.join("stamp"), [b"kernel 1".as_slice()]);
        if !stamp.is_fresh() {
            if folder.exists() {
                fs::remove_dir_all(&folder).with_context(|| format!("can't remove {}", folder.display()))?;
            }
            let packages = debian::depends(METAPACKAGE)?;
            let Some(package) = packages.iter().find(|name| name.starts_with("linux-image-")) else {
                bail!("the package {METAPACKAGE} depends on no kernel");
            };
            println!("fetching {package}");
            let files = debian::download(std::slice::from_ref(package), &folder.join("package"))?;
            debian::unpack(&files, &folder.join("root"))?;
            let release = release_in(&folder.join("root"))?;
            let packed = folder.join("root/boot").join(format!("vmlinuz-{release}"));
            let image = fs::read(&packed).with_context(|| format!("can't read {}", packed.display()))?;
            let vmlinux = folder.join("vmlinux");
            fs::write(&vmlinux, unpacked(image)?).with_context(|| format!("can't write {}", vmlinux.display()))?;
            stamp.write()?;
        }
        let release = release_in(&folder.join("root"))?;
        let modules = folder.join("root/lib/modules").join(&release).join("kernel");
        Ok(Self { vmlinux: folder.join("vmlinux"), release, modules })
    }

    /// Adds modules as `/modules/NN-name.ko`, and their names in the order of loading as `/modules/order`.
    pub(crate) fn add_modules(&self, modules: &[&str], archive: &mut Archive) -> Result<Vec<String>> {
        let mut order = Vec::new();
        for (number, module) in (1..).zip(modules) {
            let file = self.modules.join(format!("{module}.ko"));
            let name = format!("{number:02}-{}.ko", module.rsplit('/').next().unwrap_or(module));
            archive.copy(&format!("modules/{name}"), &file).with_context(|| {
                format!("the kernel {} has no module {module} (a compressed module can't be loaded)", self.release)
            })?;
            order.push(name);
        }
        archive.file("modules/order", order.join("\n") + "\n");
        Ok(order)
    }

    /// Returns the digest of the kernel.
    pub(crate) fn digest(&self) -> Result<String> {
        let bytes = fs::read(&self.vmlinux).with_context(|| format!("can't read {}", self.vmlinux.display()))?;
        Ok(stamp::sha256(&bytes))
    }
}

/// Returns the payload of a bzImage if it is LZ4, as Debian's are; QEMU starts any other image as it is, only slower.
fn unpacked(image: Vec<u8>) -> Result<Vec<u8>> {
    match image.windows(lz4::MAGIC.len()).position(|window| window == lz4::MAGIC) {
        Some(at) => {
            let vmlinux = lz4::unpack(&image[at..])?;
            if !vmlinux.starts_with(b"\x7fELF") {
                bail!("the payload of the kernel is no ELF file");
            }
            Ok(vmlinux)
        }
        None => Ok(image),
    }
}

fn release_in(root: &Path) -> Result<String> {
    let folder = root.join("lib/modules");
    let mut entries = fs::read_dir(&folder).with_context(|| format!("can't list {}", folder.display()))?;
    match entries.next() {
        Some(entry) => Ok(entry?.file_name().to_string_lossy().into_owned()),
        None => bail!("there are no modules in {}", folder.display()),
    }
}
