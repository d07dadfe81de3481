// What the page says, in English and Chinese.

const WORDS = {
  en: {
    heads: "Heads", sort: "sort by", filter: "filter: first > 0.3", thumbMax: "largest instead of mean",
    layer: "Layer", head: "Head", previousHead: "head before", nextHead: "next head", meansOf: "one head, or a mean",
    one: "this head", meanLayer: "mean of the layer", meanAll: "mean of all heads", meanShown: "mean of the heads listed",
    reduce: "what a pixel is", mean: "mean", max: "largest", sum: "sum",
    relative: "what is drawn", weights: "weights", distance: "relative to distance",
    apart: "sinks apart", words: "words", compare: "Compare", none: "nothing", difference: "difference",
    fit: "Fit", zoomIn: "closer", zoomOut: "farther", keep: "Keep", keepLink: "Copy link", copied: "copied", theme: "light or dark",
    masked: "masked", scale: "scale", linear: "linear", sqrt: "square root", log: "logarithm", limits: "limits",
    byHand: "by hand", percentile: "up to {0} %", low: "lower limit", high: "upper limit", lock: "lock", colours: "colours",
    clipped: "{0} % above the upper limit", ask: "Ask the map", findToken: "a token", find: "Find",
    found: "{0} found", unpick: "Clear", profileOf: "row or column", row: "what the query reads", column: "who reads the key",
    queryTitle: "Query {0} “{1}”", keyTitle: "Key {0} “{1}”", strongest: "The strongest places", strongestGo: "Find them",
    block: "{0} weights, queries {1}, keys {2}, {3} % of what these queries give",
    band: "off the diagonal by", shares: "From part to part", bands: "parts", sharesGo: "Show", numbers: "This head in numbers",
    keys: "Keys: arrows move, + and − zoom, Shift and arrows step from cell to cell, [ and ] change the head, 0 fits.",
    computing: "{0} of {1} heads", order: "layer", picture: "What the model saw", sound: "What the model heard",
    entropy: "entropy", largest_weight: "largest weight", largest_score: "largest score", first: "first token",
    previous: "previous token", special: "special tokens", distanceNumber: "distance",
    hoverOne: "Query {0} “{1}” gives key {2} “{3}” {4}.", hoverRank: " Rank {0} of {1}.",
    hoverMasked: "Query {0} “{1}” may not see key {2} “{3}”.",
    hoverBlock: "Queries {0}–{1}, keys {2}–{3}: {4} {5} of {6} weights.",
    hoverRatio: "Queries {0}–{1}, keys {2}–{3}: {4} times what their distance alone gives.",
    hoverSurplus: "Queries {0}–{1}, keys {2}–{3}: their difference is in the mean {4} more than at their distance elsewhere.",
    divergence: "how far the rows differ (Jensen-Shannon)", map: "Attention map; queries down, keys across",
    wrongBrowser: "This page needs a browser with canvas and typed arrays.",
    headTitle: "Layer {0}, head {1}", meanTitle: "Mean of {0} heads", differenceTitle: "{0} − {1}", waiting: "computing…",
    queries: "queries ↓", keysAxis: "keys →", answer: "What the model says",
  },
  zh: {
    heads: "注意力头", sort: "排序", filter: "筛选：first > 0.3", thumbMax: "显示最大值而非平均",
    layer: "层", head: "头", previousHead: "上一个头", nextHead: "下一个头", meansOf: "单个头或平均",
    one: "此头", meanLayer: "本层平均", meanAll: "所有头平均", meanShown: "列出的头平均",
    reduce: "像素含义", mean: "平均", max: "最大", sum: "总和",
    relative: "绘制内容", weights: "权重", distance: "相对于距离",
    apart: "汇点分列", words: "按词", compare: "比较", none: "无", difference: "差",
    fit: "全图", zoomIn: "放大", zoomOut: "缩小", keep: "保存", keepLink: "复制链接", copied: "已复制", theme: "明暗",
    masked: "被屏蔽", scale: "刻度", linear: "线性", sqrt: "平方根", log: "对数", limits: "范围",
    byHand: "手动", percentile: "至 {0} %", low: "下限", high: "上限", lock: "锁定", colours: "配色",
    clipped: "{0} % 超出上限", ask: "询问此图", findToken: "词元", find: "查找",
    found: "找到 {0} 处", unpick: "清除", profileOf: "行或列", row: "该查询读取什么", column: "谁读取该键",
    queryTitle: "查询 {0}“{1}”", keyTitle: "键 {0}“{1}”", strongest: "最强之处", strongestGo: "寻找",
    block: "{0} 个权重，查询 {1}，键 {2}，占这些查询所给的 {3} %",
    band: "距对角线", shares: "部分之间", bands: "部分", sharesGo: "显示", numbers: "此头的数字",
    keys: "按键：方向键移动，+ 和 − 缩放，Shift 加方向键逐格移动，[ 和 ] 换头，0 显示全图。",
    computing: "{1} 个头中的 {0} 个", order: "层", picture: "模型所见", sound: "模型所闻",
    entropy: "熵", largest_weight: "最大权重", largest_score: "最大分数", first: "首个词元",
    previous: "前一词元", special: "特殊词元", distanceNumber: "距离",
    hoverOne: "查询 {0}“{1}”给键 {2}“{3}”{4}。", hoverRank: "在 {1} 个中排第 {0}。",
    hoverMasked: "查询 {0}“{1}”看不到键 {2}“{3}”。",
    hoverBlock: "查询 {0}–{1}，键 {2}–{3}：{6} 个权重的{4}为 {5}。",
    hoverRatio: "查询 {0}–{1}，键 {2}–{3}：为仅由距离所得的 {4} 倍。",
    hoverSurplus: "查询 {0}–{1}，键 {2}–{3}：两者之差平均比同距离处多 {4}。",
    divergence: "各行差异（詹森-香农）", map: "注意力图；查询向下，键向右",
    wrongBrowser: "此页需要支持 canvas 和类型化数组的浏览器。",
    headTitle: "第 {0} 层，第 {1} 头", meanTitle: "{0} 个头的平均", differenceTitle: "{0} − {1}", waiting: "计算中…",
    queries: "查询 ↓", keysAxis: "键 →", answer: "模型的回答",
  },
};

let language = "en";

export function speak(chosen) {
  language = WORDS[chosen] ? chosen : "en";
  return language;
}

/** A sentence, with what belongs into it. */
export function say(name, ...given) {
  const found = WORDS[language][name] ?? WORDS.en[name] ?? name;
  return found.replace(/\{(\d)\}/g, (whole, at) => given[Number(at)] ?? "");
}

/** Names of languages that there are words in: the same ones in each. */
export const LANGUAGES = Object.keys(WORDS);
