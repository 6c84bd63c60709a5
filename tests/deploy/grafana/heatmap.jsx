// Heatmaps. Grafana publishes its plot, axes and scales as a package, and the cells of its heatmap panel not: these are
// drawn here, by the same rules (buckets made of cumulative ones, sums of series, the scheme quantized into steps).
import { getValueFormat, formattedValueToString } from '@grafana/data'
import { AxisPlacement, ScaleDirection, ScaleOrientation, UPlotChart, UPlotConfigBuilder } from '@grafana/ui'
import * as schemes from 'd3-scale-chromatic'
import { useMemo } from 'react'

const SCALE_PX = 34 // of the legend below
const COLUMNS = 48
const LEAST = 1e-9 // counts of no more than that have no cell

// { at: left edges, wide, rows: labels or null, top, cells: [column, low, high, count] }
function cumulative(frames) {
  const sorted = [...frames].sort((a, b) => bound(a) - bound(b))
  const columns = sorted.map((frame) => frame.fields[1].values)
  const at = sorted[0].fields[0].values
  const cells = columns.flatMap((values, row) =>
    values.map((value, column) => [column, row, row + 1, (value ?? 0) - (row ? (columns[row - 1][column] ?? 0) : 0)]))
  return { at, wide: at[1] - at[0], rows: sorted.map(bound), top: sorted.length, cells }
}
const bound = (frame) => { const { le } = frame.fields[1].labels; return le === '+Inf' ? Infinity : Number(le) }

function counted(frames, [from, to]) {
  const points = frames.flatMap((frame) => frame.fields[0].values.map((at, i) => [at, frame.fields[1].values[i]]))
    .filter(([, value]) => Number.isFinite(value))
  const wide = (to - from) / COLUMNS, high = step(Math.max(...points.map(([, value]) => value)) / 20)
  const counts = new Map()
  for (const [at, value] of points) {
    const key = `${Math.floor((at - from) / wide)} ${Math.floor(value / high)}`
    counts.set(key, (counts.get(key) ?? 0) + 1)
  }
  const cells = [...counts].map(([key, count]) => { const [x, y] = key.split(' ').map(Number); return [x, y * high, (y + 1) * high, count] })
  const at = Array.from({ length: COLUMNS }, (_, i) => from + i * wide)
  return { at, wide, rows: null, top: Math.max(...cells.map((cell) => cell[2])), cells }
}
const step = (least) => { const power = 10 ** Math.floor(Math.log10(least || 1)); return [1, 2, 5, 10].find((n) => n * power >= least) * power }

export function Heatmap({ panel, frames, width, height, range, theme }) {
  const { color, calculate, yAxis, cellGap = 1 } = panel.options
  const [from, to] = [range.from.valueOf(), range.to.valueOf()]
  const map = useMemo(() => (calculate ? counted(frames, [from, to]) : cumulative(frames)), [frames])
  const seen = map.cells.filter((cell) => cell[3] > LEAST)
  const [least, most] = [Math.min(...seen.map((c) => c[3])), Math.max(...seen.map((c) => c[3]))]
  const turned = theme.isDark !== Boolean(color.reverse) // Grafana turns its sequential schemes in the dark
  const paint = (share) => schemes[`interpolate${color.scheme}`](turned ? 1 - share : share)
  const palette = Array.from({ length: color.steps }, (_, i) => paint(i / (color.steps - 1)))
  const coloured = (count) => palette[most > least ? Math.round(((count - least) / (most - least)) * (color.steps - 1)) : color.steps - 1]
  const told = (value) => (value === Infinity ? '+Inf' : formattedValueToString(getValueFormat(yAxis.unit)(value)))
  const builder = useMemo(() => {
    const made = new UPlotConfigBuilder('utc')
    made.addScale({ scaleKey: 'x', isTime: true, orientation: ScaleOrientation.Horizontal, direction: ScaleDirection.Right, range: () => [from, to] })
    made.addScale({ scaleKey: 'y', orientation: ScaleOrientation.Vertical, direction: ScaleDirection.Up, range: () => [0, map.top] })
    made.addAxis({ scaleKey: 'x', isTime: true, placement: AxisPlacement.Bottom, timeZone: 'utc', theme, grid: { show: false } })
    const edges = map.rows && { splits: map.rows.map((_, i) => i + 1), values: (_, ticks) => ticks.map((at) => told(map.rows[at - 1])), space: 12, size: 62 }
    made.addAxis({ scaleKey: 'y', placement: AxisPlacement.Left, theme, formatValue: told, ...edges, grid: { show: false } })
    made.addSeries({ scaleKey: 'y', theme, pathBuilder: () => null, pointSize: 0 })
    made.addHook('draw', (plot) => {
      plot.ctx.save()
      plot.ctx.beginPath()
      plot.ctx.rect(plot.bbox.left, plot.bbox.top, plot.bbox.width, plot.bbox.height)
      plot.ctx.clip()
      for (const [column, low, high, count] of seen) {
        const left = plot.valToPos(map.at[column], 'x', true), right = plot.valToPos(map.at[column] + map.wide, 'x', true)
        const bottom = plot.valToPos(low, 'y', true), upper = plot.valToPos(high, 'y', true)
        plot.ctx.fillStyle = coloured(count)
        plot.ctx.fillRect(left, upper + cellGap, Math.max(1, right - left - cellGap), Math.max(1, bottom - upper - cellGap))
      }
      plot.ctx.restore()
    })
    return made
  }, [frames])
  const share = formattedValueToString(getValueFormat('short')(most))
  return (
    <>
      <UPlotChart config={builder} data={[map.at, map.at.map(() => 0)]} width={width} height={height - SCALE_PX} />
      <div style={{ width: 200, fontSize: 11, color: theme.colors.text.secondary }}>
        <div style={{ height: 8, background: `linear-gradient(to right, ${palette.join(',')})` }} />
        <div style={{ display: 'flex', justifyContent: 'space-between' }}><span>0</span><span>{share}</span></div>
      </div>
    </>
  )
}
