//! What is left on disk, by what the managers said.

use std::os::unix::fs::PermissionsExt;

use vouch_types::ManagerId;
use vouch_wire::pki::CertificateAuthority;

use super::*;

fn refused() -> LinkError {
    LinkError::Refused("the join token is used up".to_owned())
}

/// Returns how a first try ends that is answered like this, and which files are there then.
fn first_try(managers: &[&str], answers: Vec<LinkError>) -> (CliError, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let asking = Asking { key_file: folder.path().join("n3.key"), request_file: folder.path().join("n3.csr") };
    let (begun, _request) = asking.begin().unwrap();
    let managers: Vec<String> = managers.iter().map(|manager| (*manager).to_owned()).collect();
    let mut answers = answers.into_iter();
    let error = ask_each(&managers, |_| Err(answers.next().unwrap())).unwrap_err();
    let error = asking.failed(begun, error);
    let files = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut files: Vec<String> = files.collect();
    files.sort();
    (error, files)
}

#[test]
fn a_refusal_after_a_question_whose_end_is_not_known_leaves_key_and_request_there() {
    let not_known = [
        LinkError::Timeout(std::time::Duration::from_secs(4)),
        LinkError::Reset("gone".to_owned()),
        LinkError::Unreachable { to: "m1".to_owned(), address: String::new(), why: "nobody leads".to_owned() },
    ];
    for first in not_known {
        let (error, files) = first_try(&["127.0.0.1:1", "127.0.0.1:2"], vec![first, refused()]);
        assert_eq!(error.exit, Exit::Unavailable);
        let text = error.render();
        assert!(text.contains("used up") && text.contains("run the same command again"), "{text}");
        assert_eq!(files, ["n3.csr", "n3.key"]);
    }
    let (error, files) =
        first_try(&["127.0.0.1:1", "no port"], vec![LinkError::Timeout(std::time::Duration::from_secs(4))]);
    assert_eq!((error.exit, files.len()), (Exit::Unavailable, 2), "nor is a wrong address the last word");
}

#[test]
fn a_refusal_that_nobody_can_have_let_in_before_is_the_last_word_and_leaves_nothing() {
    let (error, files) = first_try(&["127.0.0.1:1"], vec![refused()]);
    assert_eq!((error.exit, files.len()), (Exit::Denied, 0));
    let nobody = LinkError::NotListening { to: "m1".to_owned(), address: "127.0.0.1:1".to_owned() };
    let (error, files) = first_try(&["127.0.0.1:1", "127.0.0.1:2"], vec![nobody, refused()]);
    assert_eq!((error.exit, files.len()), (Exit::Denied, 0), "the first has not heard of it");
}

#[test]
fn cas_that_a_file_lacks_are_added_to_it_and_one_that_lacks_none_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    let owner = PeerIdentity::Manager(ManagerId::new(4));
    let now = WallTime::from_unix_millis(1_795_383_407_000);
    let [old, new, own] =
        [(); 3].map(|()| CertificateAuthority::generate("test", now).unwrap().certificate_pem().to_owned());
    keep_cas(&file, &owner, &old).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), old);
    fs::write(&file, format!("{old}{own}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    keep_cas(&file, &owner, &format!("{old}{new}")).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    let expected = format!("{old}{new}{own}");
    assert_eq!(CaDigest::all_of_pem(&text).unwrap(), CaDigest::all_of_pem(&expected).unwrap());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644, "others may go on reading it");
    keep_cas(&file, &owner, &new).unwrap();
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}
