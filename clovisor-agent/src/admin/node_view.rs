//! The state of this node for an explanation.

use crate::link::choose::rejection;
use crate::link::table::{Health, LinkTable};
use clovisor_common::abi::{ClassKey, NO_LINK, dscp_of_class};
use clovisor_datapath::kernel::image::Image;
use clovisor_policy::model::Class;
use clovisor_render::explain::{LinkView, NodeView};
use std::collections::BTreeMap;

/// Links and map contents of this node.
#[derive(Clone, Copy, Debug)]
pub struct LiveNode<'a> {
    pub links: &'a LinkTable,
    pub image: &'a Image,
    /// Names of devices by ifindex.
    pub devices: &'a BTreeMap<u32, String>,
}

impl NodeView for LiveNode<'_> {
    fn link(&self, name: &str, namespace: &str) -> LinkView {
        match self.links.links.get(name) {
            None => LinkView { state: "Missing", rejection: Some("there is no such WanLink".into()) },
            Some(link) => {
                let state = if link.health == Health::Up { "Up" } else { "Down" };
                LinkView { state, rejection: rejection(link, namespace) }
            }
        }
    }

    fn entries(&self, zone: u16, class: &Class) -> Vec<String> {
        let id = class.id.0;
        let key = ClassKey { zone, class: id, pad: 0 };
        let Some(index) = self.image.classes.get(&key) else {
            return vec![format!("CLASSES {{zone {zone}, class {id}}}: not written yet")];
        };
        let mut entries =
            vec![format!("CLASSES {{zone {zone}, class {id} = DSCP {}}} -> slot {index}", dscp_of_class(id))];
        let Some(slot) = self.image.slots.get(index) else {
            return entries;
        };
        if slot.link == NO_LINK {
            entries.push(format!("SLOTS [{index}] -> no link, flags {:#x}", slot.flags));
            return entries;
        }
        entries.push(format!(
            "SLOTS [{index}] -> link {}, flags {:#x}, wire DSCP {}",
            slot.link, slot.flags, slot.wire_dscp
        ));
        if let Some(link) = self.image.links.get(&slot.link) {
            let device = self.devices.get(&link.ifindex).map_or("?", String::as_str);
            entries.push(format!(
                "LINKS [{}] -> {device} (ifindex {}), MTU {}, flags {:#x}",
                slot.link, link.ifindex, link.mtu, link.flags
            ));
        }
        entries
    }
}
