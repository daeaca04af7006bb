//! `gimlet nat`: what kind of NAT this machine is behind, what that means for connecting, and what could
//! be changed.
//!
//! ```text
//! rendezvous, lifetime ─┐
//! stun ─────────────────┴▶ findings ─▶ outlook ─▶ table, or json ─▶ exit code
//!                                   └▶ advice ──┘
//! ```

mod advice;
mod findings;
mod json;
mod lifetime;
mod outlook;
mod rendezvous;
mod stun;
mod table;
mod words;

use self::findings::Findings;
use self::outlook::Direct;
use super::args::NatArgs;
use super::exit::{self, Failure};
use super::output::Output;
use super::session::Context;

/// Asks the rendezvous.
pub(crate) fn run(context: &Context, args: &NatArgs) -> Result<(), Failure> {
    let findings = rendezvous::look(context, args)?;
    conclude(&context.output, &findings)
}

/// Asks a STUN server, for which neither a key nor settings are needed.
pub(crate) fn run_stun(output: &Output, server: &stun::StunServer) -> Result<(), Failure> {
    let findings = stun::look(output, server)?;
    conclude(output, &findings)
}

pub(crate) use self::stun::StunServer;

/// Tells what was found, and makes an exit code of it.
fn conclude(output: &Output, findings: &Findings) -> Result<(), Failure> {
    let outlook = outlook::outlook(findings);
    let advice = advice::advice(findings);
    let code = exit_code(outlook.direct);
    if output.is_json() {
        output.object(&json::nat(findings, &outlook, &advice, code))?;
    } else {
        output.say(&table::text(findings, &outlook, &advice))?;
    }
    match code {
        exit::OK => Ok(()),
        code => Err(Failure::quiet(code)),
    }
}

fn exit_code(direct: Direct) -> u8 {
    match direct {
        Direct::Expected | Direct::Likely => exit::OK,
        Direct::Unlikely => exit::MOSTLY_RELAYED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exit_code_asks_whether_direct_connections_can_be_expected() {
        let cases = [(Direct::Expected, 0), (Direct::Likely, 0), (Direct::Unlikely, 11)];
        for (direct, code) in cases {
            assert_eq!(exit_code(direct), code, "{direct:?}");
        }
    }
}
