//! What a certificate says of itself. Pure; it trusts nothing and judges nothing.

use std::net::IpAddr;

use sha2::{Digest as _, Sha256};
use vouch_types::Digest;
use vouch_types::observation::MESSAGE_MAX;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use crate::bindings::v1::vouch::probe::tls::Certificate;
use crate::limits::{CERTIFICATE_NAMES_MAX, OUTCOME_TEXT_MAX};
use crate::outcome::cut;

/// Reads a certificate.
///
/// # Errors
/// Why it cannot be read.
pub(super) fn read(der: &[u8]) -> Result<Certificate, String> {
    let (_, certificate) = parse_x509_certificate(der).map_err(|e| format!("the certificate cannot be read: {e}"))?;
    let validity = certificate.validity();
    let alternative = certificate.subject_alternative_name().ok().flatten();
    let names = alternative.iter().flat_map(|names| &names.value.general_names).filter_map(name);
    Ok(Certificate {
        sha256: Digest::new(Sha256::digest(der).into()).to_string(),
        subject: cut(certificate.subject().to_string(), MESSAGE_MAX),
        issuer: cut(certificate.issuer().to_string(), MESSAGE_MAX),
        not_before: validity.not_before.timestamp(),
        not_after: validity.not_after.timestamp(),
        names: names.take(CERTIFICATE_NAMES_MAX).map(|name| cut(name, OUTCOME_TEXT_MAX)).collect(),
    })
}

/// Returns a name of a machine as text; other names are none.
fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => {
            let v4 = <[u8; 4]>::try_from(*bytes).map(IpAddr::from);
            let v6 = <[u8; 16]>::try_from(*bytes).map(IpAddr::from);
            v4.or(v6).ok().map(|address| address.to_string())
        }
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::URI(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_times_of_a_certificate_are_read_and_damage_is_told() {
        let mut params = rcgen::CertificateParams::new(["desk-1.example".to_owned(), "192.0.2.7".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 2);
        params.not_after = rcgen::date_time_ymd(2027, 1, 2);
        params.distinguished_name.push(rcgen::DnType::CommonName, "desk-1");
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let certificate = read(made.der()).unwrap();
        assert_eq!(certificate.names, ["desk-1.example", "192.0.2.7"]);
        assert_eq!((certificate.not_before, certificate.not_after), (1_767_312_000, 1_798_848_000));
        assert!(certificate.subject.contains("CN=desk-1") && certificate.sha256.len() == 64, "{certificate:?}");
        for damaged in [&made.der()[..40], b"", b"certificate"] {
            assert!(read(damaged).unwrap_err().starts_with("the certificate cannot be read: "));
        }
    }

    #[test]
    fn of_many_names_the_first_are_kept() {
        let names: Vec<String> = (0..99).map(|i| format!("n{i}.example")).collect();
        let params = rcgen::CertificateParams::new(names.clone()).unwrap();
        let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        assert_eq!(read(made.der()).unwrap().names, names[..CERTIFICATE_NAMES_MAX]);
    }
}
