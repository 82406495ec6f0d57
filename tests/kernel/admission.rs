//! Who may open a flow.

use anyhow::{Result, ensure};
use clovisor_common::abi::{Addr, Reason};

use crate::frames::syn;
use crate::machine::{DROP, Machine, REDIRECT, PASS, VETH, ZONE};

#[test]
fn the_proxy_opens_a_flow() -> Result<()> {
    for v6 in [false, true] {
        let machine = Machine::ready()?;
        let ran = machine.run("pod_in", &syn(v6).frame()?)?;
        ensure!(ran.verdict == REDIRECT, "verdict {} v6 {v6}", ran.verdict);
        machine.expect_counted(&[Reason::FlowOpened])?;
    }
    Ok(())
}
