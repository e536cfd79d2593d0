// Which of the palette's colours a service has: the same on every page and after every reload.

export const PALETTE_SIZE = 8; // --service-0 … --service-7 in styles/tokens.css

export function serviceColour(service: string): number {
  let hash = 2_166_136_261; // FNV-1a, 32 bits
  for (let i = 0; i < service.length; i++) hash = Math.imul(hash ^ service.charCodeAt(i), 16_777_619);
  return (hash >>> 0) % PALETTE_SIZE;
}
