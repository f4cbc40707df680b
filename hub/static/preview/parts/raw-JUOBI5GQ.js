import{a as o}from"./chunk-V3NF66SO.js";import"./chunk-ZUM4OFYD.js";var e=class extends o{decodeBlock(r){return r}};export{e as default};
