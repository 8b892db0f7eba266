use super::*;

fn bytes(of: &[u8]) -> Bytes {
    Bytes::copy_from_slice(of)
}

fn text_of(form: Form, frame: &[u8]) -> Result<Option<Text>, WireError> {
    let frame = bytes(frame);
    let mut reader = Reader::new(&frame, 0);
    let text = reader.optional_text(form)?;
    reader.finish()?;
    Ok(text)
}

#[test]
fn text_in_both_forms() {
    use Form::{Classic, Flexible};
    use WireError as E;
    for (form, frame, expected) in [
        (Classic, &[0, 2, b'h', b'i'][..], Ok(Some("hi"))),
        (Classic, &[0, 0], Ok(Some(""))),
        (Classic, &[0xff, 0xff], Ok(None)),
        (Classic, &[0xff, 0xfe], Err(E::Length)),
        (Classic, &[0], Err(E::End)),
        (Classic, &[0, 2, b'h'], Err(E::End)),
        (Classic, &[0, 1, 0xff], Err(E::Utf8)),
        (Classic, &[0, 0, 7], Err(E::Trailing)),
        (Flexible, &[3, b'h', b'i'], Ok(Some("hi"))),
        (Flexible, &[1], Ok(Some(""))),
        (Flexible, &[0], Ok(None)),
        (Flexible, &[0x83, 0x80, 0x00, b'h', b'i'], Ok(Some("hi"))),
        (Flexible, &[0xff, 0xff, 0xff, 0xff, 0x1f], Err(E::Length)),
        (Flexible, &[0x80, 0x80, 0x80, 0x80, 0x80, 0], Err(E::Length)),
        (Flexible, &[0xff, 0xff, 0xff, 0xff, 0x0f], Err(E::Length)),
        // 32,768 bytes: refused even if they were there.
        (Flexible, &[0x81, 0x80, 0x02], Err(E::Length)),
        (Flexible, &[0x80], Err(E::End)),
    ] {
        let expected = expected.map(|text| text.map(Text::from));
        assert_eq!(text_of(form, frame), expected, "{form:?} {frame:?}");
    }
}

#[test]
fn what_is_written_reads_back() {
    for form in [Form::Classic, Form::Flexible] {
        let texts = [Text::from("a"), Text::default(), Text::from_static("längre")];
        let mut w = Writer::default();
        w.array(form, &texts, |w, x| w.text(form, x)).unwrap();
        w.optional_array(form, None, |w, x| w.text(form, x)).unwrap();
        w.blob(form, &bytes(&[1, 2, 3])).unwrap();
        w.optional_text(form, None).unwrap();
        w.optional(Some(&7_i64), |w, x| {
            w.i64(*x);
            Ok(())
        })
        .unwrap();
        w.optional(None::<&i64>, |_, _| Ok(())).unwrap();
        w.uuid(Uuid([9; 16]));
        w.f64(-0.5);
        w.no_tags(form);
        let frame: Bytes = w.into_chunks().concat().into();

        let mut r = Reader::new(&frame, 1 << 10);
        assert_eq!(r.array(form, 1, |r| r.text(form)).unwrap(), texts);
        assert_eq!(r.optional_array(form, 1, |r| r.text(form)), Ok(None));
        assert_eq!(r.blob(form).unwrap(), [1, 2, 3][..]);
        assert_eq!(r.optional_text(form), Ok(None));
        assert_eq!(r.optional(Reader::i64), Ok(Some(7)));
        assert_eq!(r.optional(Reader::i64), Ok(None));
        assert_eq!(r.uuid(), Ok(Uuid([9; 16])));
        assert_eq!(r.f64(), Ok(-0.5));
        r.skip_tags(form).unwrap();
        r.finish().unwrap();
    }
}

#[test]
fn arrays_are_bounded_before_they_are_made() {
    let count = |frame: &[u8], element_bytes_min, budget| {
        let frame = bytes(frame);
        let mut reader = Reader::new(&frame, budget);
        let array = reader.array(Form::Classic, element_bytes_min, Reader::i16);
        array.map(|array| (array.len(), reader.budget_left()))
    };
    let three = [0, 0, 0, 3, 0, 1, 0, 2, 0, 3];
    assert_eq!(count(&three, 2, ARRAY_BYTES + 6), Ok((3, 0)));
    assert_eq!(count(&three, 2, ARRAY_BYTES + 5), Err(WireError::Budget));
    assert_eq!(count(&three, 3, 1 << 10), Err(WireError::Length));
    // Every element is promised at least one byte even where the caller says none.
    assert_eq!(count(&[0x7f, 0xff, 0xff, 0xff], 0, usize::MAX), Err(WireError::Length));
    assert_eq!(count(&[0xff, 0xff, 0xff, 0xff], 2, 1 << 10), Err(WireError::Null));
    assert_eq!(count(&[0xff, 0xff, 0xff, 0xfe], 2, 1 << 10), Err(WireError::Length));
}

#[test]
fn tagged_fields_are_read_skipped_and_checked() {
    let read = |frame: &[u8]| {
        let frame = bytes(frame);
        let mut reader = Reader::new(&frame, 0);
        let mut known = None;
        reader.tags(Form::Flexible, |tag, r| {
            if tag != 1 {
                return Ok(TagUse::Unknown);
            }
            known = Some(r.i16()?);
            Ok(TagUse::Read)
        })?;
        reader.finish()?;
        Ok(known)
    };
    for (frame, expected) in [
        (&[0][..], Ok(None)),
        (&[1, 1, 2, 0, 5], Ok(Some(5))),
        (&[3, 0, 1, 99, 1, 2, 0, 5, 7, 0], Ok(Some(5))),
        // Twice, out of order, too long, too short, beyond the end, and fields that are not there.
        (&[2, 1, 2, 0, 5, 1, 2, 0, 6], Err(WireError::Tags)),
        (&[2, 2, 0, 1, 2, 0, 6], Err(WireError::Tags)),
        (&[1, 1, 3, 0, 5, 0], Err(WireError::Tags)),
        (&[1, 1, 1, 0, 5], Err(WireError::End)),
        (&[1, 9, 4, 0], Err(WireError::End)),
        (&[0xff, 0xff, 0xff, 0xff, 0x0f], Err(WireError::End)),
    ] {
        assert_eq!(read(frame), expected, "{frame:?}");
    }
}

#[test]
fn large_blobs_are_chunks_of_their_own() {
    let large = bytes(&[7; BLOB_BYTES_COPIED_MAX + 1]);
    let small = bytes(&[8; BLOB_BYTES_COPIED_MAX]);
    let mut w = Writer::default();
    w.i8(1);
    w.blob(Form::Classic, &large).unwrap();
    w.blob(Form::Classic, &small).unwrap();
    w.blob(Form::Classic, &large).unwrap();
    let len = w.len();
    let chunks = w.into_chunks();
    let lens: Vec<usize> = chunks.iter().map(Bytes::len).collect();
    assert_eq!(lens, [5, large.len(), 4 + small.len() + 4, large.len()]);
    assert_eq!(lens.iter().sum::<usize>(), len);
    assert_eq!(chunks[1].as_ptr(), large.as_ptr(), "not copied");
    assert_eq!(chunks[3].as_ptr(), large.as_ptr(), "not copied");
}

#[test]
fn what_a_form_cannot_say_is_refused() {
    let long = Text::from("x".repeat(TEXT_BYTES_MAX + 1));
    for form in [Form::Classic, Form::Flexible] {
        assert_eq!(Writer::default().text(form, &long), Err(WireError::Length));
    }
    let mut tags = Tags::default();
    tags.add(0, |_| Ok(())).unwrap();
    assert_eq!(Writer::default().tags(Form::Classic, tags), Err(WireError::Version));
    assert_eq!(nullable_if(false, None::<u8>), Err(WireError::Null));
    assert_eq!(nullable_if(true, None::<u8>), Ok(None));
}

#[test]
fn detached_text_frees_the_frame() {
    let frame = bytes(&[0, 2, b'h', b'i']);
    let text = Reader::new(&frame, 0).text(Form::Classic).unwrap();
    assert_eq!(text.as_bytes().as_ptr(), frame[2..].as_ptr());
    assert!(!frame.is_unique());
    let detached = text.detached();
    drop(text);
    assert!(frame.is_unique());
    assert_eq!(detached, "hi");
}
