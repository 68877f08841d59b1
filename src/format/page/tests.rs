//! Claims about pages: what is built reads back, and what is damaged is refused.

use super::*;
use crate::format::place_seed;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn meta(kind: PageKind, fence: &[u8]) -> PageMeta {
    PageMeta {
        kind,
        address: Address::from_bytes(&[7; 20]).unwrap(),
        life: Life(3),
        exact_at: Lsn(5),
        until: Lsn(4),
        fence: fence.to_vec(),
    }
}

fn no_frame(_: &PageHeader, _: &[u8], _: &mut [u8]) -> Result<(), Malformed> {
    Err(Malformed("compressed"))
}

fn user(key: &[u8]) -> Vec<u8> {
    [&[KeyKind::User as u8], key].concat()
}

fn reread(built: &BuiltPage) -> Page {
    let mut stored = Vec::new();
    let sum = built.store(Packed::Raw, 9, &mut stored);
    assert_eq!(verified(&stored, 9), Some(sum));
    assert!(stored.len().is_multiple_of(PAGE_ALIGNMENT));
    let stored = SharedBytes::from(stored);
    let page = Page::decode(&stored, no_frame).unwrap();
    let again = Page::decode_again(&stored, no_frame).unwrap();
    assert!(again.items().eq(page.items()) && again.ranges().eq(page.ranges()));
    assert_eq!((again.header(), again.fence()), (page.header(), page.fence()));
    page
}

type Model = BTreeMap<Vec<u8>, Option<(u8, Vec<u8>)>>;

fn model() -> impl Strategy<Value = Model> {
    let key = (0..5u8, prop::collection::vec(any::<u8>(), 0..6)).prop_map(|(kind, rest)| {
        let mut key = vec![kind];
        key.extend(rest);
        key
    });
    let length = prop_oneof![30 => 0..40usize, 3 => 120..300usize, 1 => 20_000..40_000usize];
    let value =
        (0..5u8, any::<u8>(), length).prop_map(|(codec, byte, length)| (codec, vec![byte; length]));
    prop::collection::btree_map(key, prop::option::weighted(0.8, value), 0..40)
}

proptest! {
    #[test]
    fn a_page_answers_as_the_map_that_it_was_built_from(
        model in model(),
        ranges in prop::collection::vec((0..9u8, 0..9u8), 0..6),
        asked in prop::collection::vec((0..5u8, any::<u8>()), 0..20),
    ) {
        let mut builder = PageBuilder::new(meta(PageKind::Delta, b""));
        for (key, item) in &model {
            match item {
                Some((codec, value)) => {
                    builder.push(key, Codec::from_byte(*codec).unwrap(), value);
                }
                None => builder.push_deleted(key),
            }
        }
        for (start, length) in &ranges {
            builder.push_range(&[*start], &[start + length + 1]);
        }
        let bytes = builder.body_bytes();
        let built = builder.finish();
        prop_assert!(built.body.len() <= bytes);
        let page = reread(&built);
        prop_assert_eq!(page.meta(), built.meta.clone());
        prop_assert_eq!(page.content_bytes(), built.content_bytes);
        prop_assert_eq!(page.count(), model.len());
        for page in [page, Page::from(built)] {
            let items: Vec<_> = page.items().collect();
            for (index, (key, item)) in model.iter().enumerate() {
                let wanted = match item {
                    Some((codec, value)) => {
                        PageItem::Value { codec: Codec::from_byte(*codec).unwrap(), value }
                    }
                    None => PageItem::Deleted,
                };
                prop_assert_eq!(page.find(key), Some(wanted));
                prop_assert_eq!(items[index], (key.as_slice(), wanted));
                let shared = page.value(index).map(|(codec, value)| (codec as u8, value.to_vec()));
                prop_assert_eq!(&shared, item);
            }
            for (kind, byte) in &asked {
                let key = vec![*kind, *byte];
                let below = model.range(..key.clone()).count();
                prop_assert_eq!(page.lower_bound(&key), below);
                for from in 0..=model.len() {
                    prop_assert_eq!(page.lower_bound_from(from, &key), below.max(from));
                }
                prop_assert_eq!(page.find(&key).is_some(), model.contains_key(&key));
                let held = |(start, length): &(u8, u8)| {
                    key >= vec![*start] && key < vec![start + length + 1]
                };
                prop_assert_eq!(page.covers(&key), ranges.iter().any(held));
            }
        }
    }

    #[test]
    fn prefixes_order_as_keys_do_whatever_stands_behind_them(
        keys in prop::collection::btree_map(
            prop::collection::vec(prop::sample::select(vec![0, 1, u8::MAX]), 0..12),
            prop_oneof![0..9usize, 126..130usize],
            1..9,
        ),
        long in any::<bool>(),
    ) {
        let mut builder = PageBuilder::new(meta(PageKind::Page, b""));
        let keys: Vec<_> = keys.into_iter().map(|(key, bytes)| {
            let tail = vec![7; if long { 130 } else { 0 }];
            ([&user(&key)[..], &tail].concat(), bytes)
        }).collect();
        let mut sorted = keys.clone();
        sorted.sort();
        for (key, bytes) in &sorted {
            builder.push(key, Codec::Raw, &vec![u8::MAX; *bytes]);
        }
        let page = reread(&builder.finish());
        for (index, (key, _)) in sorted.iter().enumerate() {
            let at = offset(page.body(), index).unwrap();
            prop_assert_eq!(prefix_at(page.body(), at), prefix(key));
            prop_assert_eq!(page.lower_bound(key), index);
            for (other, _) in &sorted {
                let ordered = prefix(key).cmp(&prefix(other));
                prop_assert!(ordered.is_eq() || ordered == key.cmp(other));
            }
        }
    }

    #[test]
    fn arbitrary_bodies_are_refused_or_read_without_a_panic(
        body in prop::collection::vec(0..6u8, 0..60),
        count in 0..6u32,
        has_ranges in any::<bool>(),
    ) {
        let mut header = PageBuilder::new(meta(PageKind::Delta, b"")).finish().header(
            BodyForm::Raw, 0, body.len());
        (header.count, header.has_ranges) = (count, has_ranges);
        if let Ok(page) = Page::checked(header, SharedBytes::from(body)) {
            prop_assert!(page.items().is_sorted_by(|left, right| left.0 < right.0));
            prop_assert!(page.items().all(|(key, _)| page.find(key).is_some()));
            prop_assert!(page.ranges().all(|(start, end)| start < end && page.covers(start)));
        }
    }
}

#[test]
fn every_flipped_bit_of_a_stored_page_is_noticed_and_none_panics_the_decoder() {
    let mut builder = PageBuilder::new(meta(PageKind::Delta, &user(b"a")));
    builder.push(&user(b"a"), Codec::Json, b"{}");
    builder.push_deleted(&user(b"b"));
    builder.push(&user(b"c"), Codec::Raw, &[1; 200]);
    builder.push_range(b"\x01a", b"\x01z");
    let mut stored = Vec::new();
    let seed = place_seed(1, 2, 4096);
    builder.finish().store(Packed::Raw, seed, &mut stored);
    assert!(verified(&stored, place_seed(1, 2, 4104)).is_none(), "moved to another place");
    for bit in 0..stored.len() * 8 {
        let mut damaged = stored.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(verified(&damaged, seed).is_none(), "bit {bit}");
        let damaged = SharedBytes::from(damaged);
        let again = Page::decode_again(&damaged, no_frame);
        if let Ok(page) = &again {
            // Nothing is said of what it holds; looking at all of it must not panic.
            std::hint::black_box((page.items().count(), page.lower_bound(&user(b"c"))));
        }
        if let Ok(page) = Page::decode(&damaged, no_frame) {
            assert_eq!(page.items().count(), 3);
            assert!(again.unwrap().items().eq(page.items()));
        }
    }
}

#[test]
fn a_base_page_with_deleted_keys_or_ranges_is_refused() {
    let mut builder = PageBuilder::new(meta(PageKind::Delta, b""));
    builder.push_deleted(&user(b"b"));
    let built = builder.finish();
    let mut header = built.header(BodyForm::Raw, 0, built.body.len());
    assert!(Page::checked(header, SharedBytes::from(&*built.body)).is_ok());
    header.kind = PageKind::Page;
    assert!(Page::checked(header, SharedBytes::from(&*built.body)).is_err());
}

#[test]
fn bodies_at_the_edge_of_wide_offsets_read_back() {
    for value_bytes in 65_510..65_540 {
        let mut builder = PageBuilder::new(meta(PageKind::Page, b""));
        builder.push(&user(b"k"), Codec::Raw, &vec![1; value_bytes]);
        builder.push(&user(b"l"), Codec::Raw, b"x");
        let bytes = builder.body_bytes();
        let built = builder.finish();
        assert_eq!(built.body.len(), bytes);
        assert!(matches!(reread(&built).item(1).1, PageItem::Value { value: b"x", .. }));
    }
}

#[test]
fn the_largest_value_with_the_longest_key_fits_a_page() {
    let key = vec![1; FULL_KEY_BYTES_MAX];
    let mut builder = PageBuilder::new(meta(PageKind::Page, &key));
    builder.push(&key, Codec::Raw, &vec![0; VALUE_BYTES_MAX]);
    assert!(reread(&builder.finish()).find(&key).is_some());
}

#[test]
fn a_page_takes_no_key_that_is_not_above_the_last() {
    // In the first eight bytes, behind them, and the same once more.
    for (first, second) in [("b", "a"), ("12345678b", "12345678a"), ("b", "b"), ("bb", "b")] {
        let built = std::panic::catch_unwind(|| {
            let mut builder = PageBuilder::new(meta(PageKind::Page, b""));
            builder.push(&user(first.as_bytes()), Codec::Raw, b"");
            builder.push(&user(second.as_bytes()), Codec::Raw, b"");
        });
        assert!(built.is_err(), "{second} stands behind {first}");
    }
}

#[test]
fn an_entry_that_is_neither_a_value_nor_a_deletion_is_refused() {
    let read = |value: &[u8], tag| {
        let mut builder = PageBuilder::new(meta(PageKind::Delta, b""));
        builder.push(&user(b"k"), Codec::Raw, value);
        let built = builder.finish();
        let header = built.header(BodyForm::Raw, 0, built.body.len());
        let mut body = built.body.clone();
        let key_at = body.windows(2).position(|bytes| bytes == user(b"k")).unwrap();
        body[key_at - 1] = tag;
        Page::checked(header, SharedBytes::from(&*body)).is_ok()
    };
    assert!(read(b"", Codec::Raw as u8) && read(b"", TAG_DELETED));
    assert!(!read(b"", TAG_DELETED - 1), "no value has that tag");
    assert!(!read(b"v", TAG_DELETED), "what is deleted has no value");
}

#[test]
fn a_raw_page_is_as_long_as_its_body_and_needs_no_dictionary() {
    let mut builder = PageBuilder::new(meta(PageKind::Page, b""));
    builder.push(&user(b"k"), Codec::Raw, b"value");
    let built = builder.finish();
    let right = built.header(BodyForm::Raw, 0, built.body.len());
    assert_eq!(right.check(), Ok(()));
    assert!(PageHeader { stored_bytes: right.stored_bytes - 1, ..right }.check().is_err());
    assert!(PageHeader { dictionary: 7, ..right }.check().is_err());
}
