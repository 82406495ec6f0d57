//! What fits, what does not, and how that is said.

use super::*;
use ipnet::IpNet;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

#[derive(Deserialize, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Sample {
    #[serde(default)]
    links: Vec<String>,
    dscp: Option<i32>,
    port: Option<u16>,
    #[serde(default)]
    is_on: bool,
    mode: Option<Mode>,
    address: Option<IpAddr>,
    network: Option<IpNet>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    rest: Option<serde_json::Value>,
    #[serde(default)]
    inner: Vec<Inner>,
}

#[derive(Deserialize, Debug, Default, PartialEq)]
struct Inner {
    name: String,
}

#[derive(Deserialize, Debug, PartialEq)]
enum Mode {
    Redirect,
    Mark,
}

fn read(text: &str) -> Result<Sample, (String, usize, String)> {
    let node = Node::parse(text).unwrap_or_else(|e| panic!("{e:?}"));
    decode(&node, Some(text)).map_err(|misfit| {
        let line = misfit.place.map_or(0, |place| place.line());
        (misfit.field.to_string(), line, misfit.message)
    })
}

#[test]
fn a_null_field_is_absent_wherever_it_stands() {
    let text = "links: null\ndscp: ~\nisOn:\nmode: null\nlabels: null\ninner: null\nrest: {a: null, b: 1}\n";
    let rest = Some(serde_json::json!({"b": 1}));
    assert_eq!(read(text), Ok(Sample { rest, ..Sample::default() }));
}

#[test]
fn scalars_of_a_text_field_are_taken_as_they_are_written() {
    let sample = read("links: [s9, 007, 1e3, true, '12', 0x10]\n").map(|sample| sample.links);
    assert_eq!(sample, Ok(["s9", "007", "1e3", "true", "12", "0x10"].map(str::to_owned).to_vec()));
}

#[test]
fn what_does_not_fit_is_said_with_field_place_and_remedy() {
    for (text, field, line, message) in [
        ("\ndscp: EF\n", "dscp", 2, "is \"EF\"; a whole number is needed"),
        ("dscp: \"46\"\n", "dscp", 1, "is \"46\"; a whole number is needed"),
        ("dscp: 4.5\n", "dscp", 1, "is 4.5; a whole number is needed"),
        ("port: 70000\n", "port", 1, "is out of range for its field"),
        ("isOn: often\n", "isOn", 1, "is \"often\"; true or false is needed"),
        ("mode: Marked\n", "mode", 1, "\"Marked\" is not one of Redirect, Mark; did you mean Mark?"),
        ("links: s9\n", "links", 1, "is \"s9\"; a list is needed"),
        ("links:\n- s9\n- null\n", "links[1]", 3, "is null; a text is needed"),
        ("labels: {app: null}\n", "labels.app", 1, "is null; a text is needed"),
        ("labels: [a]\n", "labels", 1, "is a list; a mapping of fields is needed"),
        ("inner:\n- name: a\n-\n  nme: b\n", "inner[1]", 4, "the field \"name\" is missing"),
        ("link: [s9]\n", "", 1, "there is no field \"link\"; did you mean links?"),
        (
            "address: 10.0.0.300\n",
            "address",
            1,
            "is \"10.0.0.300\"; an IP address like 192.0.2.1 or 2001:db8::1 is needed",
        ),
        (
            "network: 10.0.0.0/33\n",
            "network",
            1,
            "is \"10.0.0.0/33\"; a network like 192.0.2.0/24 or 2001:db8::/32 is needed",
        ),
    ] {
        assert_eq!(read(text), Err((field.to_owned(), line, message.to_owned())), "{text}");
    }
}

#[test]
fn a_value_without_a_text_has_no_place_and_the_same_words() {
    let value = serde_json::json!({"dscp": "EF", "links": null});
    let misfit = decode::<Sample>(&Node::from(&value), None).err();
    assert_eq!(
        misfit.map(|m| (m.field.to_string(), m.place, m.message)),
        Some(("dscp".into(), None, "is \"EF\"; a whole number is needed".into()))
    );
}
