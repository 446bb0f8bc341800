//! The reader of envelopes: no bytes make it panic, and none but those that were sealed open.
#![no_main]

use adk_psqlpy::seal::{self, Cipher, Envelope, Key};
use libfuzzer_sys::fuzz_target;

const PLACE: [&[u8]; 3] = [b"s", b"e", b"content"];

fn opened(cipher: &mut Cipher, envelope: Option<seal::Result<Envelope<'_>>>) -> Option<Vec<u8>> {
    let mut plain = Vec::new();
    cipher.open(&mut plain, &envelope?.ok()?, &PLACE).ok()?;
    Some(plain)
}

fuzz_target!(|data: &[u8]| {
    let mut cipher = Key::new("k", &[7; 32]).expect("32 bytes").cipher("event", "a", "u");
    for envelope in [Envelope::bytea(data), Envelope::json(data)].into_iter().flatten() {
        assert!(seal::may_hold_sealed(data));
        if let Ok(envelope) = envelope {
            assert!(seal::is_id(envelope.id));
            // Nobody forges a tag of 128 bits.
            assert!(opened(&mut cipher, Some(Ok(envelope))).is_none());
        }
    }
    // The input as plain text, and as what an envelope is changed by.
    let nonce = [1; seal::NONCE];
    let mut whole = cipher.seal(nonce, &PLACE, data);
    assert_eq!(opened(&mut cipher, Envelope::bytea(&whole)).as_deref(), Some(data));
    let mut text = Vec::new();
    cipher.seal_json(&mut text, nonce, &PLACE, data);
    assert_eq!(opened(&mut cipher, Envelope::json(&text)).as_deref(), Some(data));
    if let [at, bits, ..] = *data
        && bits != 0
    {
        let at = usize::from(at) % whole.len();
        whole[at] ^= bits;
        assert!(opened(&mut cipher, Envelope::bytea(&whole)).is_none());
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some((text, pattern)) = text.split_once('\n')
    {
        assert!(seal::is_like(text, "*") && seal::is_like(text, &format!("{text}*")));
        let _ = seal::is_like(text, pattern);
    }
});
