use super::*;

fn local(first: u16, last: u16) -> LocalPorts {
    LocalPorts { range: Some((first, last)), reserved: BTreeSet::new() }
}

#[test]
fn what_sockets_may_take_is_what_both_ranges_have() {
    let nat = (10_240, 29_999);
    for (local, wanted) in [
        (local(32_768, 60_999), ""),
        (local(1024, 65_000), "10240-29999"),
        (local(29_999, 40_000), "29999"),
        (local(20_000, 25_000), "20000-25000"),
        (local(1024, 10_239), ""),
        (LocalPorts::default(), ""),
    ] {
        assert_eq!(list(&shared(nat, &local)), wanted, "{local:?}");
    }
}

#[test]
fn ours_are_added_kept_and_taken_back() {
    for (what, reserved, ours, wanted, after, ours_after) in [
        ("nothing to do", "80", "", "", "80", ""),
        ("added", "80", "", "100-199", "80,100-199", "100-199"),
        ("a part is somebody's already", "80,150-160", "", "100-199", "80,100-199", "100-149,161-199"),
        ("all is somebody's", "100-199", "", "100-199", "100-199", ""),
        ("kept", "80,100-199", "100-199", "100-199", "80,100-199", "100-199"),
        ("somebody added", "80-90,100-199", "100-199", "100-199", "80-90,100-199", "100-199"),
        ("somebody wrote a list without", "81", "100-199", "100-199", "81,100-199", "100-199"),
        ("and with a part that is theirs now", "150-160", "100-199", "100-199", "100-199", "100-149,161-199"),
        ("more is wanted", "80,100-199", "100-199", "100-299", "80,100-299", "100-299"),
        ("less is wanted", "80,100-199", "100-199", "150-160", "80,150-160", "150-160"),
        ("taken back", "80,100-199", "100-199", "", "80", ""),
        ("neighbours stay", "99-200", "100-199", "", "99,200", ""),
        ("nothing of ours is left", "81", "100-199", "", "81", ""),
        ("theirs stays", "81,150", "100-199", "", "81,150", ""),
    ] {
        let plan = plan(&ports(reserved), &ports(ours), &ports(wanted));
        assert_eq!((list(&plan.reserved).as_str(), list(&plan.ours).as_str()), (after, ours_after), "{what}");
    }
}

#[test]
fn the_command_is_whole() {
    let reserved = ports("80,10240-29999");
    assert_eq!(command(&reserved), "sysctl -w net.ipv4.ip_local_reserved_ports=80,10240-29999");
}

/// What was reserved before the last boot, or in another network namespace, is not ours.
#[test]
fn a_record_holds_for_its_kernel_only() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let record = PortRecord::in_dir(dir.path());
    assert_eq!(record.load(), BTreeSet::new());
    record.save(&ports("100-199"))?;
    assert_eq!(list(&PortRecord::in_dir(dir.path()).load()), "100-199");
    let other = PortRecord { kernel: "another boot".into(), ..record.clone() };
    assert_eq!(other.load(), BTreeSet::new());
    fs::write(dir.path().join("reserved-ports.json"), "{")?;
    assert_eq!(record.load(), BTreeSet::new());
    record.save(&BTreeSet::new())?;
    record.save(&BTreeSet::new())?;
    assert_eq!(fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}
