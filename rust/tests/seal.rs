//! The cipher and the key derivation that sealing rests on, against the vectors of their specifications.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

const KEY: &str = "feffe9928665731c6d6a8f9467308308 feffe9928665731c6d6a8f9467308308";
const PLAIN: &str = "d9313225f88406e5a55909c5aff5269a 86a7a9531534f7da2e4c303d8a318a72
    1c3c0c95956809532fcf0e2449a6b525 b16aedf5aa0de657ba637b39";
const CIPHER: &str = "522dc1f099567d07f47f37a32a84427d 643a8cdcbfe5c0c97598a2bd2555d1aa
    8cb08e48590dbb3da7b08b1056828838 c5f61e6393ba7a0abcc9f662";

/// D. A. `McGrew` and J. Viega, "The Galois/Counter Mode of Operation (GCM)", appendix B, test cases 13, 14, 15 and 16
/// (those of AES-256 with a nonce of 96 bits): key, nonce, plain text, associated data, ciphertext, tag.
const GCM: [[&str; 6]; 4] = [
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000",
        "",
        "",
        "",
        "530f8afbc74536b9a963b4f1c4cb738b",
    ],
    [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "000000000000000000000000",
        "00000000000000000000000000000000",
        "",
        "cea7403d4d606b6e074ec5d3baf39d18",
        "d0d1c8a799996bf0265b98b5d48ab919",
    ],
    [
        KEY,
        "cafebabefacedbaddecaf888",
        "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
        "",
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
         8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad",
        "b094dac5d93471bdec1a502270e3cc6c",
    ],
    [
        KEY,
        "cafebabefacedbaddecaf888",
        PLAIN,
        "feedfacedeadbeeffeedfacedeadbeefabaddad2",
        CIPHER,
        "76fc6ece0f4e1768cddf8853bb2d551b",
    ],
];

#[test]
fn aes_256_gcm() {
    for [key, nonce, plain, data, cipher, tag] in GCM.map(|case| case.map(bytes)) {
        let key = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
        let nonce = || Nonce::try_assume_unique_for_key(&nonce).unwrap();
        let mut text = plain.clone();
        let made = key.seal_in_place_separate_tag(nonce(), Aad::from(&data), &mut text).unwrap();
        assert_eq!((text.as_slice(), made.as_ref()), (cipher.as_slice(), tag.as_slice()));
        text.extend_from_slice(&tag);
        assert_eq!(key.open_in_place(nonce(), Aad::from(&data), &mut text).unwrap(), plain);
        let mut changed = [cipher, tag].concat();
        *changed.last_mut().unwrap() ^= 1;
        assert!(key.open_in_place(nonce(), Aad::from(&data), &mut changed).is_err());
    }
}

/// RFC 5869, appendix A.1.
#[test]
fn hkdf_sha256() {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &bytes("000102030405060708090a0b0c"));
    let secret = salt.extract(&bytes("0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"));
    let info = bytes("f0f1f2f3f4f5f6f7f8f9");
    let mut made = [0; 32];
    secret.expand(&[&info], hkdf::HKDF_SHA256).unwrap().fill(&mut made).unwrap();
    assert_eq!(made.to_vec(), bytes("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"));
}
