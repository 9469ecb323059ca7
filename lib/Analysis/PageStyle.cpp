#include "moec/Analysis/Page.h"

const char *const moec::kPageStyle = R"css(
:root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2330;--soft:#5c6878;--line:#dfe3e9;
--accent:#0b66c3;--warn:#b3470b;--warnbg:#fdf1e7;--low:#2b6cb0;--mid:#eef0f3;--high:#d9480f;
--none:#c026a8}
@media(prefers-color-scheme:dark){:root{--bg:#12161c;--card:#1a2028;--ink:#e4e9f0;--soft:#93a0b1;
--line:#2c3541;--accent:#63adf7;--warn:#f3a05f;--warnbg:#2b2119;--low:#5aa9f5;--mid:#252c36;
--high:#ff7a3d;--none:#e66bd3}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:26px;margin:0 0 2px;overflow-wrap:anywhere}
h2{font-size:18px;margin:0 0 4px}
h3{font-size:14px;margin:0 0 6px;color:var(--soft);font-weight:600}
p{margin:0 0 12px;color:var(--soft);max-width:80ch}
section{background:var(--card);border:1px solid var(--line);border-radius:12px;
padding:18px 20px;margin-top:18px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(118px,1fr));gap:12px;
margin-top:18px}
.tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:10px 14px}
.tile b{display:block;font-size:22px;font-variant-numeric:tabular-nums;line-height:1.3}
.tile span{color:var(--soft);font-size:13px}
.tile.bad b{color:var(--warn)}
.bar{display:flex;flex-wrap:wrap;gap:6px 14px;align-items:center;margin:0 0 12px}
.bar .group{display:flex;flex-wrap:wrap;gap:6px}
button,select{font:inherit;font-size:13px;padding:3px 11px;border-radius:99px;cursor:pointer;
border:1px solid var(--line);background:transparent;color:var(--ink)}
select{max-width:100%}
#about{overflow-wrap:anywhere}
button[aria-pressed=true]{background:var(--accent);border-color:var(--accent);color:var(--card)}
button:focus-visible,select:focus-visible,canvas:focus-visible{outline:2px solid var(--accent);
outline-offset:2px}
canvas{display:block;max-width:100%}
.scroll{overflow-x:auto}
.legend{display:flex;align-items:center;gap:8px;font-size:12px;color:var(--soft);margin-top:8px}
.legend i{width:190px;height:10px;border-radius:5px;display:inline-block}
.legend .dot{width:10px}
.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(300px,1fr));gap:18px}
.side{display:grid;grid-template-columns:minmax(0,1fr) 260px;gap:22px}
@media(max-width:800px){.side{grid-template-columns:1fr}}
svg{display:block;width:100%;max-width:400px;height:auto;overflow:visible}
svg text{fill:var(--soft);font-size:11px}
svg .grid{stroke:var(--line);stroke-width:1}
svg .thin{fill:none;stroke:var(--soft);stroke-width:1;opacity:.4}
svg .bold{fill:none;stroke:var(--accent);stroke-width:2;stroke-linejoin:round}
svg .band{fill:var(--accent);opacity:.18}
svg .dot{fill:var(--accent)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;font-size:14px}
th,td{text-align:right;padding:4px 14px 4px 0;border-bottom:1px solid var(--line);font-weight:400}
th{color:var(--soft);font-size:13px}
th:first-child,td:first-child{text-align:left;white-space:nowrap;max-width:340px;overflow:hidden;
text-overflow:ellipsis}
th.heat,td.heat{padding:4px 10px;text-align:center}
ul.warnings{margin:0;padding:0;list-style:none}
ul.warnings li{background:var(--warnbg);border-left:3px solid var(--warn);border-radius:4px;
padding:5px 12px;margin-top:6px;overflow-wrap:anywhere}
details{margin-top:10px}summary{cursor:pointer;color:var(--soft)}
#tip{position:fixed;pointer-events:none;background:var(--ink);color:var(--card);font-size:12px;
padding:5px 9px;border-radius:6px;display:none;z-index:9;white-space:pre;line-height:1.4}
footer{color:var(--soft);font-size:12px;margin-top:22px}
[hidden]{display:none!important}
)css";
