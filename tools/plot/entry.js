// The marks that the page draws with; all else of Plot is left out of the bundle.
export {
  plot, barX, rect, ruleX, ruleY, tickX, dot, text, line, areaY, link, axisX, axisY, gridX, gridY,
} from "@observablehq/plot";
