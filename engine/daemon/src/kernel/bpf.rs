//! Classic BPF programs for cls_bpf: which packets a host's kernel is not to see.

use overlane_dataplane::address::HostPrefix;
use std::net::Ipv6Addr;

/// One instruction (`struct sock_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Instruction {
    code: u16,
    on_true: u8,
    on_false: u8,
    operand: u32,
}

/// BPF_LD | BPF_ABS of a word, of a half word, of a byte (linux/filter.h).
const LOAD_WORD: u16 = 0x20;
const LOAD_HALF: u16 = 0x28;
const LOAD_BYTE: u16 = 0x30;
/// BPF_JMP | BPF_JEQ | BPF_K.
const JUMP_EQUAL: u16 = 0x15;
/// BPF_RET | BPF_K.
const RETURN: u16 = 0x06;

/// TC_ACT_SHOT.
const DROP: u32 = 2;
/// TC_ACT_UNSPEC: the next filter decides.
const PASS: u32 = u32::MAX;

/// ethertype, and the destination in the IPv6 header behind an untagged Ethernet header.
const ETHERTYPE_AT: u32 = 12;
const DESTINATION_AT: u32 = 14 + 24;
const ETHERTYPE_IPV6: u32 = 0x86dd;

/// Drops every packet.
pub(super) fn drop_all() -> Vec<Instruction> {
    vec![ret(DROP)]
}

/// Drops IPv6 packets to the prefix and to the addresses; leaves the rest to the next filter.
///
/// `addresses` are few (an uplink's own), so that every jump fits into its 8 bits.
pub(super) fn drop_destinations(prefix: Option<HostPrefix>, addresses: &[Ipv6Addr]) -> Vec<Instruction> {
    let mut targets: Vec<Vec<(u16, u32, u32)>> = Vec::new();
    if let Some(prefix) = prefix {
        let bits = prefix.network().to_bits();
        let mut target = vec![word(bits, 0), word(bits, 1)];
        if prefix.length() > 64 {
            target.push((LOAD_BYTE, DESTINATION_AT + 8, (bits >> 56) as u32 & 0xff));
        }
        targets.push(target);
    }
    targets.extend(addresses.iter().map(|address| (0..4).map(|n| word(address.to_bits(), n)).collect()));

    let mut program = vec![load(LOAD_HALF, ETHERTYPE_AT), equal(ETHERTYPE_IPV6, 1), ret(PASS)];
    for target in targets {
        // A comparison that fails goes on behind this target's `ret`.
        let mut left = target.len() * 2 + 1;
        for (width, offset, value) in target {
            left -= 2;
            program.push(load(width, offset));
            program.push(Instruction { code: JUMP_EQUAL, on_true: 0, on_false: left as u8, operand: value });
        }
        program.push(ret(DROP));
    }
    program.push(ret(PASS));
    program
}

/// The program as the kernel takes and shows it (TCA_BPF_OPS).
pub(super) fn bytes(program: &[Instruction]) -> Vec<u8> {
    let encode = |instruction: &Instruction| {
        let [a, b] = instruction.code.to_ne_bytes();
        let [w, x, y, z] = instruction.operand.to_ne_bytes();
        [a, b, instruction.on_true, instruction.on_false, w, x, y, z]
    };
    program.iter().flat_map(encode).collect()
}

/// Word `n` of an IPv6 destination.
fn word(bits: u128, n: u32) -> (u16, u32, u32) {
    (LOAD_WORD, DESTINATION_AT + 4 * n, (bits >> (96 - 32 * n)) as u32)
}

fn load(code: u16, operand: u32) -> Instruction {
    Instruction { code, on_true: 0, on_false: 0, operand }
}

fn equal(operand: u32, on_true: u8) -> Instruction {
    Instruction { code: JUMP_EQUAL, on_true, on_false: 0, operand }
}

fn ret(operand: u32) -> Instruction {
    Instruction { code: RETURN, on_true: 0, on_false: 0, operand }
}

#[cfg(test)]
mod tests {
    use super::*;
    use overlane_dataplane::address::Layout;

    /// What the kernel would do with the frame.
    fn run(program: &[Instruction], frame: &[u8]) -> u32 {
        let (mut accumulator, mut at) = (0u32, 0usize);
        loop {
            let instruction = program[at];
            let offset = instruction.operand as usize;
            at += 1;
            match instruction.code {
                LOAD_BYTE => accumulator = u32::from(frame[offset]),
                LOAD_HALF => accumulator = u32::from(u16::from_be_bytes([frame[offset], frame[offset + 1]])),
                LOAD_WORD => {
                    accumulator = u32::from_be_bytes(frame[offset..offset + 4].try_into().unwrap());
                }
                JUMP_EQUAL if accumulator == instruction.operand => at += usize::from(instruction.on_true),
                JUMP_EQUAL => at += usize::from(instruction.on_false),
                _ => return instruction.operand,
            }
        }
    }

    fn frame(ethertype: u16, destination: &str) -> Vec<u8> {
        let mut frame = vec![0; 54];
        frame[12..14].copy_from_slice(&ethertype.to_be_bytes());
        frame[38..54].copy_from_slice(&destination.parse::<Ipv6Addr>().unwrap().octets());
        frame
    }

    #[test]
    fn packets_to_prefix_and_addresses_are_dropped_and_others_pass() {
        let cases = [(Layout::Slot64, "fd00:0:0:a::/64"), (Layout::Plain72, "fd00:0:0:a:100::/72")];
        for (layout, text) in cases {
            let prefix = HostPrefix::parse(layout, text).unwrap();
            let own: Ipv6Addr = "fd00:0:0:1::2".parse().unwrap();
            let program = drop_destinations(Some(prefix), &[own, "fe80::7".parse().unwrap()]);
            assert_eq!(run(&program, &frame(0x86dd, "fd00:0:0:a:100:1::5")), DROP);
            assert_eq!(run(&program, &frame(0x86dd, "fd00:0:0:1::2")), DROP);
            assert_eq!(run(&program, &frame(0x86dd, "fe80::7")), DROP);
            assert_eq!(run(&program, &frame(0x86dd, "fd00:0:0:1::3")), PASS);
            assert_eq!(run(&program, &frame(0x86dd, "fd00:0:0:b:100::1")), PASS);
            assert_eq!(run(&program, &frame(0x0800, "fd00:0:0:a:100::1")), PASS);
        }
    }

    #[test]
    fn seventy_two_bits_are_compared_where_the_prefix_has_them() {
        let prefix = HostPrefix::parse(Layout::Plain72, "fd00:0:0:a:100::/72").unwrap();
        let program = drop_destinations(Some(prefix), &[]);
        assert_eq!(run(&program, &frame(0x86dd, "fd00:0:0:a:1ff::1")), DROP);
        assert_eq!(run(&program, &frame(0x86dd, "fd00:0:0:a:200::1")), PASS);
    }

    #[test]
    fn tenant_program_drops_everything() {
        assert_eq!(run(&drop_all(), &frame(0x0800, "::")), DROP);
    }
}
