"""The look of all panels: one small style sheet an output, scoped to `.sft`.

It takes colors from the front end's theme and names no background, so it is right in light and dark. Where a front end
takes `<style>` out, the same elements still read in order.
"""

import re

from sft_magics.notebook.panels.markup import Child, Safe, el, join

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"

_LINE = "var(--jp-border-color2,#8884)"
_SHEET = """
.sft.sft{box-sizing:border-box;max-width:880px;margin:2px 0 6px;padding:12px 16px;border:1px solid LINE;
border-radius:6px;color:var(--jp-content-font-color1,inherit);line-height:1.45;
font-family:var(--jp-ui-font-family,system-ui,-apple-system,'Segoe UI',sans-serif);font-size:13px;
font-variant-numeric:tabular-nums;text-align:left;white-space:normal;overflow-wrap:break-word;display:grid;
gap:10px;grid-template-columns:minmax(0,1fr);container-type:inline-size}
.sft.sft p,.sft.sft dl,.sft.sft dd,.sft.sft dt,.sft.sft ul,.sft.sft h4{margin:0;padding:0;text-align:left}
.sft.sft>*>p+p,.sft.sft section>*+*{margin-top:6px}
.sft.sft dt,.sft.sft dd{float:none;clear:none;display:block;width:auto}
.sft.sft h4{font-size:12px;font-weight:600;line-height:1.5}
.sft.sft code,.sft.sft pre{font-family:var(--jp-code-font-family,ui-monospace,monospace);font-size:12px;color:inherit}
.sft.sft code{white-space:normal;overflow-wrap:anywhere;padding:1px 4px!important;border:0;border-radius:3px;
background:#8080801c!important}
.sft.sft pre{margin:0;background:none;padding:8px 10px;border:1px solid LINE;border-radius:4px;
white-space:pre-wrap;line-height:1.45;
overflow-x:auto}
.sft.sft a{color:inherit;text-decoration:underline}
.sft.sft svg{vertical-align:middle;overflow:visible}
.sft.sft.sft-w{border:0;padding:1px 0;margin:0 0 4px}
.sft.sft .sft-m{opacity:.7;font-weight:400}
.sft.sft .sft-hd{display:flex;flex-wrap:wrap;justify-content:space-between;align-items:center;gap:4px 16px}
.sft.sft .sft-hl{display:inline-flex;flex-wrap:wrap;align-items:center;gap:4px 10px}
.sft.sft .sft-h{font-size:15px;font-weight:600}
.sft.sft .sft-b{display:inline-flex;align-items:center;gap:5px;padding:1px 9px 1px 7px;border-radius:10px;
border:1px solid;font-size:12px;font-weight:600;line-height:17px;white-space:nowrap}
.sft.sft .sft-b b{color:var(--jp-content-font-color1,inherit);font-weight:600}
.sft.sft .sft-t{display:inline-block;padding:0 6px;border:1px solid LINE;border-radius:4px;font-size:11.5px;
line-height:17px;white-space:nowrap}
.sft.sft .sft-f{display:flex;flex-wrap:wrap;gap:8px 24px}
.sft.sft .sft-f>div{min-width:56px}
.sft.sft .sft-f dt{font-size:11px;font-weight:400;opacity:.7;line-height:1.35}
.sft.sft .sft-f dd{font-size:13px;font-weight:500;line-height:1.35}
.sft.sft .sft-p{height:4px;border-radius:2px;overflow:hidden;background:LINE}
.sft.sft .sft-p>div{height:4px;border-radius:2px}
.sft.sft .sft-c{display:flex;flex-wrap:wrap;gap:12px 28px}
.sft.sft .sft-c>*{flex:1 1 300px;min-width:0}
.sft.sft .sft-g{display:flex;flex-wrap:wrap;gap:8px 16px}
.sft.sft .sft-i{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:12px 16px}
.sft.sft .sft-i.sft-iw{grid-template-columns:repeat(auto-fill,minmax(290px,1fr))}
.sft.sft .sft-i img{display:block;max-width:100%;margin:0 0 4px}
.sft.sft .sft-l{list-style:none}
.sft.sft .sft-l li{display:flex;gap:7px;align-items:baseline;margin:0;padding:1px 0}
.sft.sft .sft-l svg{flex:none;position:relative;top:2px}
.sft.sft .sft-v:hover rect{fill-opacity:.12}
.sft.sft .sft-v:hover text{visibility:visible}
.sft.sft .sft-x{overflow-x:auto}
.sft.sft table{border-collapse:collapse;table-layout:auto;width:100%;margin:0;font-size:12.5px;border:0}
.sft.sft caption{caption-side:top;text-align:left;padding:0 0 4px;font-size:12px;font-weight:600;color:inherit}
.sft.sft th,.sft.sft td{padding:3px 12px 3px 0;text-align:left;vertical-align:baseline;border:0;font-weight:400;
white-space:normal;max-width:none;line-height:1.45;background:none}
.sft.sft table code{white-space:nowrap}
.sft.sft thead th{font-size:11px;opacity:.7;vertical-align:bottom}
.sft.sft tbody th{font-weight:500}
.sft.sft thead tr,.sft.sft thead{border-bottom:1px solid LINE;background:none}
.sft.sft tbody tr:nth-child(n),.sft.sft tbody tr:nth-child(n):hover{background:none;border-top:1px solid LINE}
.sft.sft tbody tr:nth-child(1){border-top:0}
.sft.sft .sft-r{text-align:right;white-space:nowrap}
.sft.sft .sft-k,.sft.sft .sft-a{white-space:nowrap}
.sft.sft td .sft-k,.sft.sft th .sft-k{white-space:normal}
.sft.sft td .sft-k .sft-a,.sft.sft td>.sft-a,.sft.sft th>.sft-a{white-space:nowrap}
.sft.sft .sft-d{white-space:nowrap;display:inline-block;min-width:116px}
.sft.sft .sft-u{unicode-bidi:isolate;overflow-wrap:anywhere}
.sft.sft td>.sft-u,.sft.sft tbody th>.sft-u{display:inline-block;min-width:9em;
vertical-align:top}
.sft.sft .sft-n{display:none;margin-top:4px}
.sft.sft table:not(.sft-q) svg{max-width:none}
.sft.sft .sft-q{table-layout:auto;width:auto}
.sft.sft .sft-q td{padding:5px 14px;text-align:right}
.sft.sft td .sft-b{padding:0 7px 0 5px;font-size:11.5px;gap:4px}
@container (max-width:700px){.sft.sft table{font-size:12px}.sft.sft th,.sft.sft td{padding-right:7px}
.sft.sft td>.sft-u,.sft.sft tbody th>.sft-u{min-width:6em}}
@container (max-width:800px){.sft.sft .sft-o{display:none}.sft.sft .sft-n{display:block}}
.jp-OutputArea-child:has(.sft-gone){display:none}
.sft.sft details>summary{cursor:pointer;font-size:12px;opacity:.8}
.sft.sft details[open]>summary{margin-bottom:6px}
""".replace("LINE", _LINE)  # fmt: skip
_STYLE = Safe("<style>" + re.sub(r"\s*\n\s*", "", _SHEET) + "</style>")


def output(*children: Child, label: str, frame: bool = True) -> Safe:
    """Return a whole output: the style sheet and a labeled region with the panel's parts, None left out."""
    look = "sft" if frame else "sft sft-w"
    parts = [c for c in children if c is not None and c != ""]
    return join(_STYLE, el("div", *parts, class_=look, role="region", aria_label=label))
