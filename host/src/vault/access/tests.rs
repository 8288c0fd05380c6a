//! Clients' keys against their operator's mistakes, their holders, and somebody who has the files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use base64::{Engine, prelude::BASE64_STANDARD};
use futures_util::FutureExt;
use ring::digest::{SHA256, digest};

use super::*;
use crate::{access::Scope, agents::tests::vault};

const MASTER: &str = "sk-master";

fn minted(keys: &ClientKeys, role: Role, owner: &str) -> (KeyView, Zeroizing<String>) {
    let new = NewKey {
        id: ClientKeyId::fresh(),
        label: Some("of a test".to_owned()),
        role,
        owner: OwnerId::from(owner.to_owned()),
        expires_ms: None,
    };
    keys.mint(new).unwrap()
}

fn found(keys: &ClientKeys, text: &str) -> Option<Client> {
    keys.find(Shown::Key(text))
}

#[test]
fn a_key_is_found_by_its_text_alone_also_after_a_restart() {
    let (_directory, vault) = vault();
    let keys = ClientKeys::open(&vault, MASTER).unwrap();
    let (view, text) = minted(&keys, Role::Reader, "ann");
    assert_eq!(text.len(), "sk-".len() + 64);
    for keys in [keys.clone(), ClientKeys::open(&vault, MASTER).unwrap()] {
        let client = found(&keys, &text).unwrap();
        assert_eq!((client.name(), client.role()), (&*view.id.to_string(), Role::Reader));
        assert_eq!(client.scope(), &Scope::Of(OwnerId::from("ann".to_owned())));
        let master = found(&keys, MASTER).unwrap();
        assert_eq!((master.name(), master.role(), master.scope()), ("master", Role::Admin, &Scope::All));
        for other in ["", "sk-", &text[..66], &format!("{}0", *text), &text.to_uppercase(), &view.id.to_string()] {
            assert!(found(&keys, other).is_none(), "{other:?}");
        }
        assert!(keys.find(Shown::SignIn(&text)).is_none(), "a key is no sign-in");
    }
}

#[test]
fn an_overlong_key_is_refused_unseen() {
    let (_directory, vault) = vault();
    let long = "k".repeat(SHOWN_BYTES_MAX + 1);
    assert!(found(&ClientKeys::open(&vault, &long).unwrap(), &long).is_none());
    assert!(found(&ClientKeys::open(&vault, &long[1..]).unwrap(), &long[1..]).is_some());
}

#[tokio::test]
async fn a_revoked_key_is_gone_for_good_with_its_sign_ins() {
    let (_directory, vault) = vault();
    let keys = ClientKeys::open(&vault, MASTER).unwrap();
    let ((view, text), (_, other)) = (minted(&keys, Role::Member, "ann"), minted(&keys, Role::Member, "ann"));
    let client = found(&keys, &text).unwrap();
    let cookie = keys.sign_in(&client).unwrap();
    let browser = keys.find(Shown::SignIn(&cookie)).unwrap();
    assert!(client.ended().now_or_never().is_none() && browser.ended().now_or_never().is_none());
    assert!(keys.revoke(view.id).unwrap() && !keys.revoke(view.id).unwrap());
    assert!(client.ended().now_or_never().is_some() && browser.ended().now_or_never().is_some());
    for keys in [keys.clone(), ClientKeys::open(&vault, MASTER).unwrap()] {
        assert!(found(&keys, &text).is_none() && keys.find(Shown::SignIn(&cookie)).is_none());
        assert!(found(&keys, &other).is_some());
        assert_eq!(keys.all().len(), 1);
    }
}

#[tokio::test]
async fn an_expired_key_ends_what_it_has_open_and_stays_on_the_list() {
    let (_directory, vault) = vault();
    let keys = ClientKeys::open(&vault, MASTER).unwrap();
    let new = NewKey {
        id: ClientKeyId::fresh(),
        label: None,
        role: Role::Member,
        owner: OwnerId::local(),
        expires_ms: Some(clock::unix_ms() + 200),
    };
    let (view, text) = keys.mint(new).unwrap();
    let client = found(&keys, &text).unwrap();
    let cookie = keys.sign_in(&client).unwrap();
    client.ended().await;
    assert!(clock::unix_ms() >= view.expires_ms.unwrap());
    assert!(found(&keys, &text).is_none() && keys.find(Shown::SignIn(&cookie)).is_none());
    assert_eq!(keys.get(view.id).unwrap().expires_ms, view.expires_ms);
}

#[test]
fn neither_a_key_nor_a_digest_of_it_is_in_any_file() {
    let (directory, vault) = vault();
    let keys = ClientKeys::open(&vault, MASTER).unwrap();
    let (_, text) = minted(&keys, Role::Member, "ann");
    let cookie = keys.sign_in(&found(&keys, &text).unwrap()).unwrap();
    keys.note().unwrap();
    for secret in [text, cookie, Zeroizing::new(MASTER.to_owned())] {
        let sum = digest(&SHA256, secret.as_bytes());
        let hex = sum.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let traces = [
            secret.as_bytes().to_vec(),
            secret.trim_start_matches("sk-").as_bytes().to_vec(),
            sum.as_ref().to_vec(),
            hex.into_bytes(),
            BASE64_STANDARD.encode(&*secret).into_bytes(),
        ];
        for file in fs::read_dir(directory.path()).unwrap() {
            let path = file.unwrap().path();
            let bytes = fs::read(&path).unwrap();
            for trace in &traces {
                assert!(!bytes.windows(trace.len()).any(|window| window == trace), "{}", path.display());
            }
        }
    }
}

#[test]
fn a_sign_in_outlives_a_restart_and_neither_its_end_nor_another_master_key() {
    let (_directory, vault) = vault();
    let keys = ClientKeys::open(&vault, MASTER).unwrap();
    let (_, text) = minted(&keys, Role::Member, "ann");
    let (master, member) = (found(&keys, MASTER).unwrap(), found(&keys, &text).unwrap());
    let cookies = [&master, &master, &member].map(|client| keys.sign_in(client).unwrap());
    let shown = |keys: &ClientKeys| {
        [0, 1, 2].map(|place| keys.find(Shown::SignIn(&cookies[place])).map(|client| client.name().to_owned()))
    };
    let (master, member) = (Some(master.name().to_owned()), Some(member.name().to_owned()));
    assert_eq!(shown(&keys), [master.clone(), master.clone(), member.clone()]);
    assert!(found(&keys, &cookies[0]).is_none(), "what a browser shows is no key");
    keys.sign_out(&keys.find(Shown::SignIn(&cookies[0])).unwrap()).unwrap();
    assert_eq!(shown(&keys), [None, master.clone(), member.clone()]);
    assert_eq!(shown(&ClientKeys::open(&vault, MASTER).unwrap()), [None, master, member.clone()]);
    assert_eq!(shown(&ClientKeys::open(&vault, "sk-another").unwrap()), [None, None, member.clone()]);
    assert_eq!(shown(&ClientKeys::open(&vault, MASTER).unwrap()), [None, None, member], "and they do not come back");
}

#[test]
fn one_browser_too_many_signs_the_first_one_out() {
    let (_directory, vault) = vault();
    let keys = ClientKeys::open(&vault, MASTER).unwrap();
    let (_, text) = minted(&keys, Role::Member, "ann");
    let other = keys.sign_in(&found(&keys, MASTER).unwrap()).unwrap();
    let client = found(&keys, &text).unwrap();
    let cookies: Vec<_> = (0..=SIGN_INS_MAX).map(|_| keys.sign_in(&client).unwrap()).collect();
    for keys in [keys, ClientKeys::open(&vault, MASTER).unwrap()] {
        let signed_in = |cookie: &Zeroizing<String>| keys.find(Shown::SignIn(cookie)).is_some();
        let missing: Vec<_> = cookies.iter().map(signed_in).enumerate().filter(|(_, there)| !there).collect();
        // Those of one millisecond are in no order.
        assert_eq!(missing.len(), 1, "{missing:?}");
        assert!(signed_in(&other), "another key's stay");
    }
}

#[test]
fn when_a_key_was_used_is_noted_beside_the_request_and_kept() {
    let (_directory, vault) = vault();
    let keys = ClientKeys::open(&vault, MASTER).unwrap();
    let (view, text) = minted(&keys, Role::Member, "ann");
    assert_eq!(keys.get(view.id).unwrap().used_ms, None);
    let before = clock::unix_ms();
    found(&keys, &text).unwrap();
    let used = keys.get(view.id).unwrap().used_ms.unwrap();
    assert!(used >= before);
    assert_eq!(ClientKeys::open(&vault, MASTER).unwrap().get(view.id).unwrap().used_ms, None, "not on the way");
    keys.note().unwrap();
    assert_eq!(ClientKeys::open(&vault, MASTER).unwrap().get(view.id).unwrap().used_ms, Some(used));
}

#[test]
fn another_store_s_pepper_and_a_missing_one_let_nobody_in() {
    let (_here, mine) = vault();
    let (_there, theirs) = vault();
    for vault in [&mine, &theirs] {
        minted(&ClientKeys::open(vault, MASTER).unwrap(), Role::Member, "ann");
    }
    let table = rows::pepper_table();
    let foreign = theirs.store.view().unwrap().rows(table).unwrap().get(b"1").unwrap().unwrap();
    let put = |value: Option<&[u8]>| {
        let commit = mine.store.begin().unwrap();
        match value {
            Some(value) => commit.rows(table).unwrap().put(b"1", value).unwrap(),
            None => drop(commit.rows(table).unwrap().remove(b"1").unwrap()),
        }
        commit.commit().unwrap();
    };
    put(Some(&foreign));
    assert!(matches!(ClientKeys::open(&mine, MASTER), Err(RowError::Integrity(_))));
    put(None);
    let error = ClientKeys::open(&mine, MASTER).unwrap_err().to_string();
    assert!(error.contains("client_pepper") && error.contains("missing"), "{error}");
}
