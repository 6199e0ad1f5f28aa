use super::{node_info::Features, refused::RefusedReason, *};
use crate::ids::{ClusterName, Incarnation};

fn info() -> NodeInfo {
    NodeInfo {
        node: NodeId::new(0x0102),
        incarnation: Incarnation::new(0x0304_0506),
        cluster: ClusterName::new("kv"),
        advertised: Some("a:7".to_owned()),
        port: 7000,
        max_frame: Some(0x00A0_0004),
        max_message: None,
        features: Features::LINKS,
    }
}

/// The bytes of the fields of [`info`].
const INFO: &[u8] = b"\x01\0\x08\0\0\0\0\0\0\x01\x02\
    \x02\0\x08\0\0\0\0\x03\x04\x05\x06\
    \x03\0\x02kv\
    \x04\0\x03a:7\
    \x05\0\x02\x1b\x58\
    \x06\0\x04\0\xa0\0\x04\
    \x0a\0\x04\0\0\0\x01";

fn hello() -> Control {
    Control::hello(info(), Some(NodeId::new(9)), Lane::NORMAL)
}

fn welcome() -> Control {
    Control::Welcome {
        version: 1,
        from: info(),
    }
}

fn refused() -> Control {
    Control::Refused(Refused {
        reason: RefusedReason::OlderIncarnation,
        known: Some(Incarnation::new(8)),
    })
}

fn start() -> Control {
    Control::Start {
        stream: 3,
        next: 0x0506,
    }
}

fn gap() -> Control {
    Control::Gap { next: 0x0506 }
}

/// All that have fields.
fn all() -> [Control; 5] {
    [hello(), welcome(), refused(), start(), gap()]
}

/// Appends fields to an encoded frame.
fn with(mut frame: Vec<u8>, fields: &[u8]) -> Vec<u8> {
    frame.extend_from_slice(fields);
    let len = frame.len() as u32;
    frame[..4].copy_from_slice(&len.to_be_bytes());
    frame
}

fn whole(bytes: &[u8]) -> Result<Control, BadControl> {
    match Control::front(bytes)? {
        Front::Control(control, len) => {
            assert_eq!(len, bytes.len());
            Ok(control)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_control_frame_has_exactly_these_bytes() {
    let hello_bytes = [
        b"\0\0\0\x4f\xff\xff\xff\xffatps\x01\x01\x01\0",
        INFO,
        b"\x07\0\x08\0\0\0\0\0\0\0\x09",
    ];
    assert_eq!(hello().encode(), hello_bytes.concat());
    let welcome_bytes = [b"\0\0\0\x44\xff\xff\xff\xffatps\x02\x01\x01\0", INFO];
    assert_eq!(welcome().encode(), welcome_bytes.concat());
    let refused_bytes = b"\0\0\0\x20\xff\xff\xff\xffatps\x03\x01\x01\0\
        \x08\0\x02\0\x04\
        \x09\0\x08\0\0\0\0\0\0\0\x08";
    assert_eq!(refused().encode(), refused_bytes);
    let start_bytes = b"\0\0\0\x26\xff\xff\xff\xffatps\x04\x01\x01\0\
        \x0c\0\x08\0\0\0\0\0\0\0\x03\
        \x0d\0\x08\0\0\0\0\0\0\x05\x06";
    assert_eq!(start().encode(), start_bytes);
    let gap_bytes = b"\0\0\0\x1b\xff\xff\xff\xffatps\x05\x01\x01\0\
        \x0d\0\x08\0\0\0\0\0\0\x05\x06";
    assert_eq!(gap().encode(), gap_bytes);
    let goodbye = Control::Goodbye.encode();
    assert_eq!(goodbye, b"\0\0\0\x10\xff\xff\xff\xffatps\x06\x01\x01\0");
    assert_eq!(whole(&goodbye), Ok(Control::Goodbye));
}

#[test]
fn what_is_encoded_is_read_as_the_same() {
    for control in all() {
        assert_eq!(whole(&control.encode()), Ok(control));
    }
}

#[test]
fn a_hello_names_its_lane_unless_that_is_the_normal_one() {
    let of = |lane| Control::hello(info(), Some(NodeId::new(9)), lane).encode();
    let named = with(hello().encode(), b"\x0b\0\x01\x02");
    assert_eq!(of(Lane::BULK), named);
    for lane in Lane::all() {
        let read = whole(&of(lane)).expect("valid");
        assert!(matches!(read, Control::Hello { lane: number, .. } if number == lane.get()));
    }
    // What it means to this node is decided elsewhere.
    let unknown = with(hello().encode(), b"\x0b\0\x01\xc8");
    assert!(matches!(
        whole(&unknown),
        Ok(Control::Hello { lane: 200, .. })
    ));
    let long = with(hello().encode(), b"\x0b\0\x02\0\x01");
    assert_eq!(whole(&long), Err(BadControl::Value(tag::LANE)));
}

#[test]
fn a_frame_is_not_read_before_its_last_byte() {
    for control in all() {
        let mut bytes = control.encode();
        for cut in 0..bytes.len() {
            assert_eq!(
                Control::front(&bytes[..cut]),
                Ok(Front::Incomplete),
                "{cut}"
            );
        }
        bytes.push(0);
        let front = Control::front(&bytes);
        assert_eq!(front, Ok(Front::Control(control, bytes.len() - 1)));
    }
}

#[test]
fn a_frame_whose_length_ends_it_early_is_an_error_or_lacks_a_field() {
    for control in all() {
        let bytes = control.encode();
        for len in 12..bytes.len() {
            let cut = with(bytes[..len].to_vec(), &[]);
            // Fields at the end may be left out, so a cut between two of them can be right.
            if let Ok(read) = whole(&cut) {
                assert!(len >= HEAD + 5, "{len}: {read:?}");
            }
        }
        let cut = with(bytes[..bytes.len() - 1].to_vec(), &[]);
        assert_eq!(whole(&cut), Err(BadControl::Cut));
    }
}

#[test]
fn unknown_fields_are_skipped() {
    for control in all() {
        for unknown in [&b"\x63\0\0"[..], b"\xff\0\x03abc\x40\0\x01x"] {
            let bytes = with(control.encode(), unknown);
            assert_eq!(whole(&bytes), Ok(control.clone()));
        }
    }
}

#[test]
fn a_later_release_is_understood_if_it_still_speaks_our_version() {
    let mut bytes = hello().encode();
    (bytes[13], bytes[14]) = (200, 1);
    assert_eq!(whole(&bytes), Ok(hello()));
    (bytes[13], bytes[14]) = (200, 2);
    assert_eq!(whole(&bytes), Ok(Control::OtherVersion));
    // What such a release means by its fields is not looked at.
    let bytes = with(bytes, b"\x01\0\x01x");
    assert_eq!(whole(&bytes), Ok(Control::OtherVersion));
    let mut bytes = refused().encode();
    (bytes[13], bytes[14]) = (200, 2);
    assert_eq!(whole(&bytes), Ok(refused()));
    (bytes[13], bytes[14]) = (1, 2);
    let (newest, oldest) = (1, 2);
    assert_eq!(whole(&bytes), Err(BadControl::Versions { newest, oldest }));
    bytes[12] = 77;
    (bytes[13], bytes[14]) = (1, 1);
    assert_eq!(whole(&bytes), Ok(Control::Unknown));
}

#[test]
fn both_use_the_highest_version_that_both_speak() {
    let versions = |newest, oldest| Versions { newest, oldest };
    for (a, b, common) in [
        ((3, 1), (5, 2), Some(3)),
        ((3, 1), (1, 1), Some(1)),
        ((3, 2), (1, 1), None),
        ((255, 0), (0, 0), Some(0)),
    ] {
        let (a, b) = (versions(a.0, a.1), versions(b.0, b.1));
        assert_eq!([a.common(b), b.common(a)], [common; 2]);
    }
}

#[test]
fn a_frame_of_a_mebibyte_is_refused_by_its_first_twelve_bytes() {
    let mut bytes = hello().encode();
    bytes[..4].copy_from_slice(&(1u32 << 20).to_be_bytes());
    assert_eq!(Control::front(&bytes[..11]), Ok(Front::Incomplete));
    let too_long = Err(BadControl::TooLong(1 << 20));
    assert_eq!(Control::front(&bytes[..12]), too_long);
    bytes[..4].copy_from_slice(&(MAX_CONTROL as u32).to_be_bytes());
    assert_eq!(Control::front(&bytes), Ok(Front::Incomplete));
}

#[test]
fn other_frames_are_told_apart_as_soon_as_they_differ() {
    for other in [
        &b"\0\0\0\x20\xff\xff\xff\xfe"[..],
        b"\0\0\0\x20\x01",
        b"\0\0\0\x20\xff\xff\xff\xffat!",
        b"\0\0\0\x07",
        b"\0\0\0\x0b\xff\xff\xff\xffatp",
    ] {
        assert_eq!(Control::front(other), Ok(Front::Other), "{other:?}");
    }
}

#[test]
fn control_frames_are_told_apart_by_their_group_and_their_magic() {
    for control in all() {
        let mut bytes = control.encode();
        assert!(is_control(&bytes));
        assert!(!is_control(&bytes[..11]));
        bytes[12] = 77;
        assert!(is_control(&bytes), "of a later release");
        bytes[4] = 0;
        assert!(!is_control(&bytes));
    }
    assert!(!is_control(b"\0\0\0\x0c\xff\xff\xff\xffatpx"));
}

#[test]
fn bad_fields_are_errors() {
    let bare = |fields: &[u8]| whole(&with(welcome().encode()[..HEAD].to_vec(), fields));
    assert_eq!(
        bare(&INFO[..22]).map(drop),
        Ok(()),
        "node and incarnation do"
    );
    assert_eq!(bare(&[]), Err(BadControl::Missing(tag::NODE)));
    assert_eq!(
        bare(&INFO[..11]),
        Err(BadControl::Missing(tag::INCARNATION))
    );
    assert_eq!(
        bare(b"\x01\0\x07abcdefg"),
        Err(BadControl::Value(tag::NODE))
    );
    assert_eq!(bare(b"\x03\0\0"), Err(BadControl::Value(tag::CLUSTER)));
    assert_eq!(
        bare(b"\x03\0\x01\xff"),
        Err(BadControl::Value(tag::CLUSTER))
    );
    assert_eq!(bare(b"\x63\0\0\x63\0\0"), Err(BadControl::Twice(0x63)));
    let long = [&b"\x04\x01\x04"[..], &[b'a'; 260]].concat();
    assert_eq!(bare(&long), Err(BadControl::Value(tag::ADVERTISED)));
}
